//! Whether a file is a component that this host can run, said item by item.
//!
//! First its first bytes, before anything is compiled; then, once it is compiled, its imports and
//! exports by name, by version, and by type.

use wasmtime::Engine;
use wasmtime::component::Component;
use wasmtime::component::types::{self, ComponentFunc, ComponentItem};

use crate::bindings::signature::{
    BatchParams, EachReturn, FilterReturn, InitParams, InitReturn, MessageParams, RouteReturn,
    SettingsReturn, TimerReturn, TransformReturn,
};
use crate::bindings::{
    PACKAGE, VERSION,
    offered::{
        AddParams, BytesReturn, FoundReturn, GetReturn, Key, LenParams, LogTypes, NameParams,
        PublishParams, PublishReturn, ReadParams, ReadReturn, ScanParams, ScanReturn, SetParams,
        SetReturn, SumParams, SumReturn, SwapParams, ValueParams,
    },
};
use crate::error::LoadErrorKind;
use crate::grants::Grants;
use crate::messaging;
use crate::plugin::Role;

const MAGIC: &[u8; 4] = b"\0asm";
const CORE: [u8; 4] = [1, 0, 0, 0];
const COMPONENT: [u8; 4] = [0x0d, 0, 1, 0];

/// Looks at the first bytes.
pub(crate) fn check_magic(bytes: &[u8]) -> Result<(), LoadErrorKind> {
    let Some((magic, rest)) = bytes.split_first_chunk::<4>() else {
        return Err(LoadErrorKind::NotWasm { found: hex(bytes) });
    };
    if magic != MAGIC {
        return Err(LoadErrorKind::NotWasm { found: hex(magic) });
    }
    match rest.first_chunk::<4>() {
        Some(&COMPONENT) => Ok(()),
        Some(&CORE) => Err(LoadErrorKind::CoreModule),
        Some(other) => Err(LoadErrorKind::ComponentVersion { found: hex(other) }),
        None => Err(LoadErrorKind::ComponentVersion { found: hex(rest) }),
    }
}

fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "nothing".into();
    }
    bytes
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>()
        .join(" ")
}

type TypeCheck = fn(&ComponentFunc, &types::Component) -> wasmtime::Result<()>;

macro_rules! check {
    ($params:ty, $result:ty) => {
        |function, component| function.typecheck::<$params, $result>(&component.instance_type())
    };
}

/// What a component may import: interface, function, types.
const OFFERED: &[(&str, &str, TypeCheck)] = &[
    ("log", "log", check!(LogTypes, ())),
    ("clock", "now-ms", check!((), (u64,))),
    ("clock", "monotonic-ns", check!((), (u64,))),
    ("metrics", "counter", check!(NameParams, (u32,))),
    ("metrics", "gauge", check!(NameParams, (u32,))),
    ("metrics", "histogram", check!(NameParams, (u32,))),
    ("metrics", "add", check!(AddParams, ())),
    ("metrics", "set", check!(ValueParams, ())),
    ("metrics", "observe", check!(ValueParams, ())),
    ("payload", "read", check!(ReadParams, ReadReturn)),
    ("random", "bytes", check!(LenParams, BytesReturn)),
    ("random", "number", check!((), (u64,))),
    ("state", "get", check!((Key,), GetReturn)),
    ("state", "set", check!(SetParams, SetReturn)),
    ("state", "remove", check!((Key,), FoundReturn)),
    ("state", "add", check!(SumParams, SumReturn)),
    ("state", "swap", check!(SwapParams, FoundReturn)),
    ("state", "scan", check!(ScanParams, ScanReturn)),
    ("publish", "publish", check!(PublishParams, PublishReturn)),
    ("timer", "set", check!(LenParams, ())),
];

impl Role {
    fn type_check(self) -> TypeCheck {
        match self {
            Role::Filter => check!(BatchParams<'static>, FilterReturn),
            Role::Transform => check!(BatchParams<'static>, TransformReturn),
            Role::Route => check!(BatchParams<'static>, RouteReturn),
            Role::Each => check!(MessageParams<'static>, EachReturn),
        }
    }
}

/// Interface `name` of the contract, with its version.
pub(crate) fn versioned(name: &str) -> String {
    let (major, minor, patch) = VERSION;
    format!("{PACKAGE}/{name}@{major}.{minor}.{patch}")
}

/// The interface and the version of a name of the contract's package, whatever version it is.
fn of_contract(name: &str) -> Option<(&str, &str)> {
    let rest = name.strip_prefix(PACKAGE)?.strip_prefix('/')?;
    Some(rest.split_once('@').unwrap_or((rest, "")))
}

/// Whether a component that exports this has a role of the contract, whatever version it is.
pub(crate) fn is_role(name: &str) -> bool {
    of_contract(name).is_some_and(|(interface, _)| Role::from_name(interface).is_some())
}

/// Within 0.MINOR.x functions and interfaces are only added, so what a component uses is there or
/// is not, and any patch version fits.
pub(crate) fn is_compatible(version: &str) -> bool {
    let mut parts = version.splitn(3, '.').map(|part| part.parse::<u64>().ok());
    let (major, minor) = (parts.next().flatten(), parts.next().flatten());
    major == Some(VERSION.0) && minor == Some(VERSION.1) && parts.next().flatten().is_some()
}

/// Checks all imports: that they are offered, and granted. What a guest of `wasi:messaging` imports
/// of it needs no grant: its world names it, used or not. To send does.
pub(crate) fn check_imports(
    engine: &Engine,
    component: &Component,
    grants: &Grants,
    is_messaging: bool,
) -> Result<(), LoadErrorKind> {
    let ty = component.component_type();
    for (name, import) in ty.imports(engine) {
        if let Some(checked) = messaging::check_import(engine, is_messaging, name, &import.ty) {
            checked?;
            continue;
        }
        let Some((interface, version)) = of_contract(name) else {
            return Err(unknown_import(name));
        };
        let known = interface == "types" || OFFERED.iter().any(|(i, ..)| *i == interface);
        if !known {
            return Err(unknown_import(name));
        }
        if !is_compatible(version) {
            return Err(version_error("imports", name, interface));
        }
        if !grants.has(interface)
            && let Some(grant) = Grants::NAMES.into_iter().find(|grant| *grant == interface)
        {
            let item = name.to_owned();
            return Err(LoadErrorKind::NotGranted { item, grant });
        }
        let ComponentItem::ComponentInstance(instance) = &import.ty else {
            return Err(unknown_import(name));
        };
        for (function, item) in instance.exports(engine) {
            if !matches!(item.ty, ComponentItem::Type(_)) {
                check_import(&ty, name, interface, function, &item.ty)?;
            }
        }
    }
    Ok(())
}

/// The functions that a component imports, as `interface.function`, those of `wasi:messaging` with
/// their package; its imports were checked.
pub(crate) fn imports(engine: &Engine, component: &Component) -> Vec<String> {
    let ty = component.component_type();
    let mut found = Vec::new();
    for (name, import) in ty.imports(engine) {
        found.extend(messaging::import_names(engine, name, &import.ty));
        let (Some((interface, _)), ComponentItem::ComponentInstance(instance)) =
            (of_contract(name), &import.ty)
        else {
            continue;
        };
        let functions = instance
            .exports(engine)
            .filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_)));
        found.extend(functions.map(|(function, _)| format!("{interface}.{function}")));
    }
    found
}

fn check_import(
    component: &types::Component,
    name: &str,
    interface: &str,
    function: &str,
    item: &ComponentItem,
) -> Result<(), LoadErrorKind> {
    let offered = OFFERED
        .iter()
        .find(|(i, f, _)| (*i, *f) == (interface, function));
    let (Some((.., check)), ComponentItem::ComponentFunc(found)) = (offered, item) else {
        return Err(unknown_import(&format!("{name}#{function}")));
    };
    check(found, component).map_err(|error| mismatch("imports", name, function, &error))
}

/// The roles that a component exports, at a version that fits.
pub(crate) fn roles(engine: &Engine, component: &Component) -> Result<Vec<Role>, LoadErrorKind> {
    let ty = component.component_type();
    let mut found = Vec::new();
    for (name, _) in ty.exports(engine) {
        let Some((interface, version)) = of_contract(name) else {
            continue;
        };
        let Some(role) = Role::ALL.into_iter().find(|role| role.name() == interface) else {
            continue;
        };
        if !is_compatible(version) {
            return Err(version_error("exports", name, interface));
        }
        found.push(role);
    }
    if found.is_empty() {
        let names: Vec<_> = ty
            .exports(engine)
            .map(|(name, _)| name.to_owned())
            .collect();
        return Err(LoadErrorKind::NoRole {
            expected: Role::ALL.map(|role| versioned(role.name())).join(", ")
                + ", "
                + &messaging::versioned(messaging::HANDLER),
            found: if names.is_empty() {
                "nothing".into()
            } else {
                names.join(", ")
            },
        });
    }
    found.sort();
    Ok(found)
}

/// The interfaces that a component exports and a host calls, by the names that they have there.
pub(crate) struct Exports {
    /// Not there for a guest of `wasi:messaging`.
    pub lifecycle: Option<String>,
    pub role: String,
    /// The function of that.
    pub function: &'static str,
    pub wakes: Option<String>,
    pub schema: Option<String>,
}

impl Exports {
    /// Their names, those that are there.
    pub fn into_names(self) -> Vec<String> {
        let all = [self.lifecycle, Some(self.role), self.wakes, self.schema];
        all.into_iter().flatten().collect()
    }
}

/// Checks `lifecycle` and the interface of `role`, and `wakes` and `schema` where they are.
pub(crate) fn check_exports(
    engine: &Engine,
    component: &Component,
    role: Role,
) -> Result<Exports, LoadErrorKind> {
    let export = |interface: &str, function: &str, check: TypeCheck| {
        check_export(engine, component, interface, function, check)
    };
    let ty = component.component_type();
    let is_there = |interface: &str| {
        let mut names = ty.exports(engine).map(|(name, _)| of_contract(name));
        names.any(|name| name.is_some_and(|(found, _)| found == interface))
    };
    let optional = |interface: &str, function: &str, check: TypeCheck| {
        is_there(interface)
            .then(|| export(interface, function, check))
            .transpose()
    };
    let init: TypeCheck = check!(InitParams<'static>, InitReturn);
    Ok(Exports {
        lifecycle: Some(export("lifecycle", "init", init)?),
        function: role.function(),
        role: export(role.name(), role.function(), role.type_check())?,
        wakes: optional("wakes", "on-timer", check!((), TimerReturn))?,
        schema: optional("schema", "settings", check!((), SettingsReturn))?,
    })
}

/// Checks what a guest of `wasi:messaging` exports: one function.
pub(crate) fn check_handler(
    engine: &Engine,
    component: &Component,
) -> Result<Exports, LoadErrorKind> {
    Ok(Exports {
        lifecycle: None,
        role: messaging::check_handler(engine, component)?,
        function: messaging::HANDLE,
        wakes: None,
        schema: None,
    })
}

fn check_export(
    engine: &Engine,
    component: &Component,
    interface: &str,
    function: &str,
    check: TypeCheck,
) -> Result<String, LoadErrorKind> {
    let ty = component.component_type();
    let missing = || LoadErrorKind::MissingExport {
        item: format!("{}#{function}", versioned(interface)),
    };
    let (name, export) = ty
        .exports(engine)
        .find(|(name, _)| of_contract(name).is_some_and(|(found, _)| found == interface))
        .ok_or_else(missing)?;
    if !of_contract(name).is_some_and(|(_, version)| is_compatible(version)) {
        return Err(version_error("exports", name, interface));
    }
    let ComponentItem::ComponentInstance(instance) = &export.ty else {
        return Err(missing());
    };
    match instance.get_export(engine, function).map(|item| item.ty) {
        Some(ComponentItem::ComponentFunc(found)) => {
            check(&found, &ty).map_err(|error| mismatch("exports", name, function, &error))?;
        }
        _ => return Err(missing()),
    }
    Ok(name.to_owned())
}

fn unknown_import(item: &str) -> LoadErrorKind {
    let hint = if item.starts_with("wasi:") {
        "; build for wasm32-unknown-unknown, or stub WASI (docs/plugins.md)"
    } else {
        ""
    };
    LoadErrorKind::UnknownImport {
        item: item.to_owned(),
        hint,
    }
}

fn version_error(direction: &'static str, item: &str, interface: &str) -> LoadErrorKind {
    LoadErrorKind::Version {
        direction,
        item: item.to_owned(),
        offered: versioned(interface),
    }
}

fn mismatch(
    direction: &'static str,
    interface: &str,
    function: &str,
    error: &wasmtime::Error,
) -> LoadErrorKind {
    let item = format!("{interface}#{function}");
    LoadErrorKind::TypeMismatch {
        direction,
        item,
        detail: format!("{error:#}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_are_told_apart() {
        let kind = |bytes: &[u8]| check_magic(bytes).expect_err("refused").to_string();
        assert!(check_magic(b"\0asm\x0d\0\x01\0rest").is_ok());
        assert!(kind(b"").contains("begins with nothing"));
        assert!(kind(b"\x7fELF....").contains("begins with 7f 45 4c 46"));
        assert!(kind(b"\0asm\x01\0\0\0").contains("is a core module"));
        assert!(kind(b"\0asm\x0e\0\x01\0").contains("binary version 0e 00 01 00"));
        assert!(kind(b"\0asm\x01").contains("binary version 01,"));
    }

    #[test]
    fn any_patch_version_fits() {
        assert!(is_compatible("0.1.0") && is_compatible("0.1.17"));
        for other in ["", "0.1", "0.2.0", "1.1.0", "0.1.0-rc", "x.1.0"] {
            assert!(!is_compatible(other), "{other}");
        }
    }
}
