//! What `wit-bindgen` makes of `wit/plugin.wit`: the imports, and one module for each part that a
//! plugin may export, all with the same types.
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

pub use api::waypost::plugin::{clock, log, metrics, payload, types};

macro_rules! part {
    ($module:ident, $world:literal, $path:literal) => {
        pub mod $module {
            wit_bindgen::generate!({
                path: "../../wit",
                world: $world,
                pub_export_macro: true,
                default_bindings_module: $path,
                with: {
                    "waypost:plugin/types@0.1.1": crate::raw::types,
                },
            });
        }
    };
}

part!(lifecycle, "starts", "waypost_plugin::raw::lifecycle");
part!(filter, "filters", "waypost_plugin::raw::filter");
part!(transform, "transforms", "waypost_plugin::raw::transform");
part!(route, "routes", "waypost_plugin::raw::route");
part!(each, "takes-each", "waypost_plugin::raw::each");
