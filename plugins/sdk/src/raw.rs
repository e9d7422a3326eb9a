//! What `wit-bindgen` makes of `wit/plugin.wit`: the imports (those that are granted by default, and
//! apart from them those that are not), and one module for each part that a plugin may export, all
//! with the same types.
//!
//! Public because [`export!`](crate::export) expands to paths in here; everything that a plugin
//! needs is reached through the crate root.

#![allow(
    missing_docs,
    reason = "generated; the contract is documented in wit/plugin.wit"
)]

pub mod api {
    wit_bindgen::generate!({ path: "../../wit", world: "host-api", generate_all });
}

pub use api::waypost::plugin::{clock, log, metrics, payload, random, types};

pub mod effects {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "effects-api",
        generate_all,
        with: {
            "waypost:plugin/types@0.1.1": crate::raw::types,
        },
    });
}

pub use effects::waypost::plugin::{publish, state, timer};

macro_rules! part {
    ($module:ident, $world:literal, $path:literal $(, $types:literal)?) => {
        pub mod $module {
            wit_bindgen::generate!({
                path: "../../wit",
                world: $world,
                pub_export_macro: true,
                default_bindings_module: $path,
                $(with: {
                    $types: crate::raw::types,
                },)?
            });
        }
    };
}

part!(
    lifecycle,
    "starts",
    "waypost_plugin::raw::lifecycle",
    "waypost:plugin/types@0.1.1"
);
part!(
    filter,
    "filters",
    "waypost_plugin::raw::filter",
    "waypost:plugin/types@0.1.1"
);
part!(
    transform,
    "transforms",
    "waypost_plugin::raw::transform",
    "waypost:plugin/types@0.1.1"
);
part!(
    route,
    "routes",
    "waypost_plugin::raw::route",
    "waypost:plugin/types@0.1.1"
);
part!(
    each,
    "takes-each",
    "waypost_plugin::raw::each",
    "waypost:plugin/types@0.1.1"
);
part!(schema, "tells-settings", "waypost_plugin::raw::schema");
part!(
    wakes,
    "is-woken",
    "waypost_plugin::raw::wakes",
    "waypost:plugin/types@0.1.1"
);
