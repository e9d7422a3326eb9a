//! The shelf: plugins that come with the node, for `builtin = "…"`. Built from `plugins/`, so that a
//! node needs no file beside itself.

use std::sync::LazyLock;

use ring::digest;
use waypost_host::Role;

use crate::config::Grant;
use crate::packed;

/// A plugin of the shelf.
#[derive(Clone, Copy, Debug)]
pub struct Stock {
    /// What the configuration calls it.
    pub name: &'static str,
    /// The component; see [`packed`].
    packed: &'static [u8],
    /// The schema of its settings, which the component gives too; for none of the demo's.
    pub settings: Option<&'static str>,
    /// The roles that it has.
    pub roles: &'static [Role],
    /// What must be granted to it. Each of them has to stand in `grants`.
    pub grants: &'static [Grant],
}

macro_rules! stock {
    ($name:literal, $roles:expr, $grants:expr) => {
        Stock {
            name: $name,
            packed: include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".packed")),
            settings: Some(include_str!(concat!(
                "../../../plugins/shelf/",
                $name,
                "/settings.json"
            ))),
            roles: $roles,
            grants: $grants,
        }
    };
    (demo $name:literal, $roles:expr) => {
        Stock {
            name: $name,
            packed: include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".packed")),
            settings: None,
            roles: $roles,
            grants: &[],
        }
    };
}

/// All of them, in the order in which people are shown them; those of the demo last.
pub const SHELF: &[Stock] = &[
    stock!("filter", &[Role::Filter], &[]),
    stock!("route", &[Role::Route], &[]),
    stock!("rewrite", &[Role::Transform], &[]),
    stock!("redact", &[Role::Transform], &[]),
    stock!("sample", &[Role::Filter], &[Grant::Random]),
    stock!("rate-limit", &[Role::Filter], &[Grant::State]),
    stock!("dedup", &[Role::Filter], &[Grant::State]),
    stock!("convert", &[Role::Transform], &[]),
    stock!("cloudevents", &[Role::Transform], &[Grant::Random]),
    stock!(
        "geofence",
        &[Role::Filter, Role::Transform, Role::Route],
        &[]
    ),
    stock!("json-schema", &[Role::Filter], &[]),
    stock!(
        "jq",
        &[Role::Filter, Role::Transform, Role::Route],
        &[Grant::Clock]
    ),
    stock!("enrich", &[Role::Transform], &[]),
    stock!(
        "aggregate",
        &[Role::Transform],
        &[Grant::State, Grant::Publish, Grant::Timer, Grant::Clock]
    ),
    stock!(demo "quake-magnitude", &[Role::Filter]),
    stock!(demo "quake-alert", &[Role::Transform]),
    stock!(demo "quake-route", &[Role::Route]),
];

/// What stands before a name where a file or a digest could stand as well.
pub const PREFIX: &str = "builtin:";

/// The plugin with this name.
pub fn stock(name: &str) -> Option<&'static Stock> {
    SHELF.iter().find(|stock| stock.name == name)
}

/// All names.
pub fn names() -> Vec<&'static str> {
    SHELF.iter().map(|stock| stock.name).collect()
}

/// Why there is none of this name, and what there is.
pub fn unknown(name: &str) -> String {
    format!(
        "there is no builtin {name:?}; `waypost plugin shelf` lists them: {}",
        names().join(", ")
    )
}

impl Stock {
    /// The component.
    pub fn component(&self) -> Vec<u8> {
        packed::unpacked(self.packed)
    }

    /// How many bytes that is.
    pub fn bytes(&self) -> u64 {
        packed::length(self.packed)
    }

    /// SHA-256 of the component, in hexadecimal digits.
    pub fn digest(&self) -> String {
        let digest = digest::digest(&digest::SHA256, &self.component());
        digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
    }
}

/// The plugin whose component has this SHA-256: one that was deployed by its name.
pub(crate) fn with_digest(digest: &str) -> Option<&'static Stock> {
    static DIGESTS: LazyLock<Vec<String>> =
        LazyLock::new(|| SHELF.iter().map(Stock::digest).collect());
    let at = DIGESTS.iter().position(|known| known == digest)?;
    SHELF.get(at)
}
