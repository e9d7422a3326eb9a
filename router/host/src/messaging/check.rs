//! What is looked at when a component is loaded: whether it is a guest of `wasi:messaging`, and
//! whether it means the interface that runs here.
//!
//! Functions are compared by name here. The types of imports are compared by the linker, which
//! knows the host's resources; those of `handle` here as far as they can be without an instance,
//! and whole when one is made.

use wasmtime::Engine;
use wasmtime::component::types::{ComponentFunc, ComponentInstance, ComponentItem, Type};
use wasmtime::component::{Component, ResourceType};

use super::{CONTRACT, HANDLE, PACKAGE, VERSION, versioned};
use crate::error::LoadErrorKind;
use crate::plugin::Role;
use crate::schema::{SettingsError, shortened};
use crate::verify;

/// The interface that makes a component a guest of `wasi:messaging`.
pub(crate) const HANDLER: &str = "incoming-handler";

/// What such a guest may import: interface, function.
const OFFERED: &[(&str, &str)] = &[
    ("types", "[static]client.connect"),
    ("types", "[method]client.disconnect"),
    ("types", "[constructor]message"),
    ("types", "[method]message.topic"),
    ("types", "[method]message.content-type"),
    ("types", "[method]message.set-content-type"),
    ("types", "[method]message.data"),
    ("types", "[method]message.set-data"),
    ("types", "[method]message.metadata"),
    ("types", "[method]message.add-metadata"),
    ("types", "[method]message.set-metadata"),
    ("types", "[method]message.remove-metadata"),
    ("producer", "send"),
    ("request-reply", "[constructor]request-options"),
    ("request-reply", "[method]request-options.set-timeout-ms"),
    (
        "request-reply",
        "[method]request-options.set-expected-replies",
    ),
    ("request-reply", "request"),
    ("request-reply", "reply"),
];

/// The interface and the version of a name of the package, whatever version it is.
fn of_package(name: &str) -> Option<(&str, &str)> {
    let rest = name.strip_prefix(PACKAGE)?.strip_prefix('/')?;
    Some(rest.split_once('@').unwrap_or((rest, "")))
}

fn version_error(direction: &'static str, item: &str, interface: &str) -> LoadErrorKind {
    LoadErrorKind::Version {
        direction,
        item: item.to_owned(),
        offered: versioned(interface),
    }
}

/// Whether a component is one: it exports `incoming-handler`, and no role of the contract, which
/// would say more.
pub(crate) fn is_guest(engine: &Engine, component: &Component) -> Result<bool, LoadErrorKind> {
    let ty = component.component_type();
    if ty.exports(engine).any(|(name, _)| verify::is_role(name)) {
        return Ok(false);
    }
    let handlers = ty.exports(engine).filter_map(|(name, _)| {
        let (interface, version) = of_package(name)?;
        (interface == HANDLER).then_some((name, version))
    });
    let mut other = None;
    for (name, version) in handlers {
        if version == VERSION {
            return Ok(true);
        }
        other = Some(version_error("exports", name, HANDLER));
    }
    other.map_or(Ok(false), Err)
}

/// The role that it runs in, whatever was asked for.
pub(crate) fn role(asked: Option<Role>) -> Result<Role, LoadErrorKind> {
    match asked {
        None | Some(Role::Filter) => Ok(Role::Filter),
        Some(asked) => Err(LoadErrorKind::MessagingRole {
            item: versioned(HANDLER),
            asked,
        }),
    }
}

/// The interface has no word for settings.
pub(crate) fn check_settings(settings: &[(String, String)]) -> Result<(), SettingsError> {
    match settings.first() {
        None => Ok(()),
        Some((setting, _)) => Err(SettingsError::Unknown {
            setting: shortened(setting),
            expected: "no settings, which wasi:messaging has no way to tell".into(),
        }),
    }
}

/// Whether an import, as [`import_names`] gives it, publishes.
pub(crate) fn is_sending(import: &str) -> bool {
    let function = import.strip_prefix(PACKAGE);
    matches!(function, Some("/producer.send" | "/request-reply.reply"))
}

/// Checks the import `name`, if it is of the package: nothing where it is not.
pub(crate) fn check_import(
    engine: &Engine,
    is_guest: bool,
    name: &str,
    item: &ComponentItem,
) -> Option<Result<(), LoadErrorKind>> {
    let (interface, version) = of_package(name)?;
    Some(check(engine, is_guest, (name, interface, version), item))
}

fn check(
    engine: &Engine,
    is_guest: bool,
    (name, interface, version): (&str, &str, &str),
    item: &ComponentItem,
) -> Result<(), LoadErrorKind> {
    let unknown = |item: String, hint| Err(LoadErrorKind::UnknownImport { item, hint });
    if !OFFERED.iter().any(|(offered, _)| *offered == interface) {
        return unknown(name.to_owned(), "");
    }
    if !is_guest {
        let hint = "; it does to components that export incoming-handler of the same package";
        return unknown(name.to_owned(), hint);
    }
    if version != VERSION {
        return Err(version_error("imports", name, interface));
    }
    let ComponentItem::ComponentInstance(instance) = item else {
        return unknown(name.to_owned(), "");
    };
    let mut functions = functions(engine, instance);
    match functions.find(|function| !OFFERED.contains(&(interface, *function))) {
        Some(function) => unknown(format!("{name}#{function}"), ""),
        None => Ok(()),
    }
}

fn functions<'a>(
    engine: &'a Engine,
    instance: &'a ComponentInstance,
) -> impl Iterator<Item = &'a str> {
    let items = instance.exports(engine);
    items.filter_map(|(name, item)| {
        matches!(item.ty, ComponentItem::ComponentFunc(_)).then_some(name)
    })
}

/// The functions that the import `name` has, if it is of the package, as they are shown:
/// `wasi:messaging/types.message.data`.
pub(crate) fn import_names(engine: &Engine, name: &str, item: &ComponentItem) -> Vec<String> {
    let (Some((interface, _)), ComponentItem::ComponentInstance(instance)) =
        (of_package(name), item)
    else {
        return Vec::new();
    };
    functions(engine, instance)
        .map(|function| {
            let plain = function.rsplit_once(']').map_or(function, |(_, name)| name);
            format!("{PACKAGE}/{interface}.{plain}")
        })
        .collect()
}

/// What the linker says of imports with other types.
pub(crate) fn wrong_imports(error: &wasmtime::Error) -> LoadErrorKind {
    LoadErrorKind::TypeMismatch {
        direction: "imports",
        item: CONTRACT.to_owned(),
        detail: format!("{error:#}"),
    }
}

/// Checks `handle`, and gives the name of its interface.
pub(crate) fn check_handler(
    engine: &Engine,
    component: &Component,
) -> Result<String, LoadErrorKind> {
    let name = versioned(HANDLER);
    let ty = component.component_type();
    let function = match ty.get_export(engine, &name).map(|export| export.ty) {
        Some(ComponentItem::ComponentInstance(instance)) => {
            instance.get_export(engine, HANDLE).map(|item| item.ty)
        }
        _ => None,
    };
    let item = format!("{name}#{HANDLE}");
    let Some(ComponentItem::ComponentFunc(function)) = function else {
        return Err(LoadErrorKind::MissingExport { item });
    };
    let types = ty.get_import(engine, &versioned("types"));
    let message = match types.map(|import| import.ty) {
        Some(ComponentItem::ComponentInstance(types)) => {
            types.get_export(engine, "message").map(|item| item.ty)
        }
        _ => None,
    };
    let message = match message {
        Some(ComponentItem::Resource(message)) => Some(message),
        _ => None,
    };
    match wrong_type(&function, message) {
        None => Ok(name),
        Some(detail) => Err(LoadErrorKind::TypeMismatch {
            direction: "exports",
            item,
            detail: detail.into(),
        }),
    }
}

fn wrong_type(function: &ComponentFunc, message: Option<ResourceType>) -> Option<&'static str> {
    let params: Vec<Type> = function.params().map(|(_, ty)| ty).collect();
    let takes_message = match &params[..] {
        [Type::Own(taken)] => Some(*taken) == message,
        _ => false,
    };
    if !takes_message {
        return Some("expected one parameter, a message of wasi:messaging/types");
    }
    let results: Vec<Type> = function.results().collect();
    match &results[..] {
        [Type::Result(result)] if result.ok().is_none() && is_error(result.err()) => None,
        _ => Some("expected a result without a value, and error of wasi:messaging/types"),
    }
}

fn is_error(found: Option<Type>) -> bool {
    let Some(Type::Variant(variant)) = found else {
        return false;
    };
    let expected = [
        ("timeout", None),
        ("connection", Some(Type::String)),
        ("permission-denied", Some(Type::String)),
        ("other", Some(Type::String)),
    ];
    variant
        .cases()
        .map(|case| (case.name, case.ty))
        .eq(expected)
}
