//! Write Waypost plugins in Rust.
//!
//! A plugin is a type that says what it needs ([`Plugin`]) and answers in one role: [`Filter`],
//! [`Transform`], [`Route`], or [`Each`]. [`export!`] makes a component of it:
//!
//! ```
//! use waypost_plugin::{Answer, Config, Decision, Filter, InitError, Interest, Message, Plugin};
//!
//! struct Loud {
//!     limit: f64,
//! }
//!
//! impl Plugin for Loud {
//!     fn init(config: &Config) -> Result<(Loud, Interest), InitError> {
//!         config.allow(&["limit"])?;
//!         let limit = config.parsed("limit")?.unwrap_or(80.0);
//!         Ok((Loud { limit }, Interest::nothing().header("decibel")))
//!     }
//! }
//!
//! impl Filter for Loud {
//!     fn filter(&mut self, message: &Message<'_>) -> Answer {
//!         match message.header_str("decibel").and_then(|text| text.parse::<f64>().ok()) {
//!             Some(decibel) if decibel >= self.limit => Decision::Pass.into(),
//!             Some(_) => Decision::Drop.into(),
//!             None => Decision::DeadLetter.because("header 'decibel' is not a number"),
//!         }
//!     }
//! }
//!
//! waypost_plugin::export!(Loud: filter);
//! # fn main() {}
//! ```
//!
//! Messages are views into the packed batch of `wit/plugin.wit`: a field that is never read costs
//! nothing. An instance is used by one thread and one call at a time, and may be replaced at any
//! moment (after a trap, or when the configuration changes), so what it keeps in `self` is a
//! cache, never the truth. What must outlive it belongs into [`host::state`].
//!
//! What a plugin may ask of the router stands in [`host`]. Some of it must be granted in the
//! router's configuration; a component that imports what it was not granted is not loaded, and only
//! what is called becomes an import. Unit tests run on the machine that builds: there [`host`]
//! works on a stand-in, which [`testing`] looks into.
//!
//! A plugin can also be called by a timer, and say which settings it takes:
//!
//! ```
//! # use waypost_plugin::*;
//! use waypost_plugin::host::{publish, state, timer};
//!
//! struct Count;
//!
//! impl Plugin for Count {
//!     fn init(_: &Config) -> Result<(Count, Interest), InitError> {
//!         timer::set(60_000);
//!         Ok((Count, Interest::nothing()))
//!     }
//!
//!     fn on_timer(&mut self) -> Result<(), Error> {
//!         timer::set(60_000);
//!         let count = state::number("count").unwrap_or(0);
//!         publish::publish(0, Outgoing::new("counts/minute", count.to_string()))?;
//!         state::remove("count")?;
//!         Ok(())
//!     }
//!
//!     fn settings_schema() -> String {
//!         r#"{"type": "object", "additionalProperties": false}"#.into()
//!     }
//! }
//!
//! impl Transform for Count {
//!     fn transform(&mut self, _: &Message<'_>) -> Outcome {
//!         match state::add("count", 1, 0) {
//!             Ok(_) => Outcome::Pass,
//!             Err(refusal) => Outcome::Reject(refusal.to_string()),
//!         }
//!     }
//! }
//!
//! waypost_plugin::export!(Count: transform, wakes, schema);
//! # fn main() {}
//! ```

mod batch;
mod config;
pub mod host;
pub mod raw;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
mod verdict;

pub use batch::{Batch, Message, Messages};
pub use raw::api::waypost::plugin::types::{
    Config, Edit, Error, HeaderInterest, InitError, Interest, Message as OwnMessage, Outgoing,
    PayloadInterest,
};
pub use raw::each::exports::waypost::plugin::each::Outcome as EachOutcome;
pub use raw::filter::exports::waypost::plugin::filter::{Decision, Decisions};
pub use raw::route::exports::waypost::plugin::route::Choice;
pub use raw::transform::exports::waypost::plugin::transform::Outcome;
pub use verdict::Answer;

/// What every plugin is, whatever its role.
pub trait Plugin: Sized + 'static {
    /// Reads the settings and says which fields of messages are needed. Called once for each
    /// instance, before anything else.
    fn init(config: &Config) -> Result<(Self, Interest), InitError>;

    /// Called when the time is up that [`host::timer::set`] set; set it again for the next. Exported
    /// with `wakes` in [`export!`].
    fn on_timer(&mut self) -> Result<(), Error> {
        Err(Error::Invalid(
            "on_timer is exported, but not written".into(),
        ))
    }

    /// A JSON Schema (2020-12) of the settings as one object of texts. The router checks the
    /// configuration against it before `init`, and refuses a schema with keywords that it cannot
    /// check texts by; `docs/plugins.md` lists those that it can. Must not use [`host`]. Exported
    /// with `schema` in [`export!`].
    fn settings_schema() -> String {
        r#"{"type": "object"}"#.into()
    }
}

/// Says which messages go on.
pub trait Filter: Plugin {
    /// Decides on one message.
    fn filter(&mut self, message: &Message<'_>) -> Answer;

    /// Decides on a batch; override it where messages have to be seen together.
    fn filter_batch(&mut self, batch: &Batch) -> Result<Decisions, Error> {
        let mut each = Vec::with_capacity(batch.len());
        let mut reasons = Vec::new();
        for message in batch {
            let Answer { decision, reason } = self.filter(&message);
            each.push(decision);
            if let Some(reason) = reason {
                reasons.push((message.position(), reason));
            }
        }
        Ok(Decisions { each, reasons })
    }
}

/// Says what messages become.
pub trait Transform: Plugin {
    /// Decides on one message.
    fn transform(&mut self, message: &Message<'_>) -> Outcome;

    /// Decides on a batch; override it where messages have to be seen together.
    fn transform_batch(&mut self, batch: &Batch) -> Result<Vec<Outcome>, Error> {
        Ok(batch
            .iter()
            .map(|message| self.transform(&message))
            .collect())
    }
}

/// Says where messages go.
pub trait Route: Plugin {
    /// Decides on one message.
    fn route(&mut self, message: &Message<'_>) -> Choice;

    /// Decides on a batch; override it where messages have to be seen together.
    fn route_batch(&mut self, batch: &Batch) -> Result<Vec<Choice>, Error> {
        Ok(batch.iter().map(|message| self.route(&message)).collect())
    }
}

/// Answers for one message a call, in any way. Simple, and about twenty times dearer.
pub trait Each: Plugin {
    /// Decides on one message.
    fn on_message(&mut self, message: OwnMessage) -> Result<EachOutcome, Error>;
}

/// Makes a component of a plugin: `export!(Type: filter)`. The roles are `filter`, `transform`,
/// `route` and `each`; several are separated by commas, and the router's configuration then names
/// the one that is meant. With `wakes` it is also called by a timer ([`Plugin::on_timer`]), with
/// `schema` it says which settings it takes ([`Plugin::settings_schema`]).
#[macro_export]
macro_rules! export {
    ($plugin:ty: $($role:ident),+ $(,)?) => {
        // Only a component has exports of such names; elsewhere, in unit tests, there are none.
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            struct Exported;

            ::std::thread_local! {
                static PLUGIN: ::std::cell::RefCell<::core::option::Option<$plugin>> =
                    const { ::std::cell::RefCell::new(::core::option::Option::None) };
            }

            impl $crate::raw::lifecycle::exports::waypost::plugin::lifecycle::Guest for Exported {
                fn init(config: $crate::Config) -> Result<$crate::Interest, $crate::InitError> {
                    let (plugin, interest) = <$plugin as $crate::Plugin>::init(&config)?;
                    PLUGIN.with_borrow_mut(|slot| *slot = Some(plugin));
                    Ok(interest)
                }
            }
            $crate::raw::lifecycle::export!(Exported with_types_in $crate::raw::lifecycle);

            $($crate::export_role!($plugin, $role);)+
        };
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn(
            &$crate::Config,
        ) -> ::core::result::Result<($plugin, $crate::Interest), $crate::InitError> =
            <$plugin as $crate::Plugin>::init;
    };
}

/// One role of [`export!`].
#[doc(hidden)]
#[macro_export]
macro_rules! export_role {
    ($plugin:ty, filter) => {
        impl $crate::raw::filter::exports::waypost::plugin::filter::Guest for Exported {
            fn filter(
                batch: $crate::raw::types::Batch,
            ) -> Result<$crate::Decisions, $crate::Error> {
                $crate::with_plugin(&PLUGIN, |plugin| {
                    $crate::Filter::filter_batch(plugin, &$crate::Batch::new(batch)?)
                })
            }
        }
        $crate::raw::filter::export!(Exported with_types_in $crate::raw::filter);
    };
    ($plugin:ty, transform) => {
        impl $crate::raw::transform::exports::waypost::plugin::transform::Guest for Exported {
            fn transform(
                batch: $crate::raw::types::Batch,
            ) -> Result<Vec<$crate::Outcome>, $crate::Error> {
                $crate::with_plugin(&PLUGIN, |plugin| {
                    $crate::Transform::transform_batch(plugin, &$crate::Batch::new(batch)?)
                })
            }
        }
        $crate::raw::transform::export!(Exported with_types_in $crate::raw::transform);
    };
    ($plugin:ty, route) => {
        impl $crate::raw::route::exports::waypost::plugin::route::Guest for Exported {
            fn route(
                batch: $crate::raw::types::Batch,
            ) -> Result<Vec<$crate::Choice>, $crate::Error> {
                $crate::with_plugin(&PLUGIN, |plugin| {
                    $crate::Route::route_batch(plugin, &$crate::Batch::new(batch)?)
                })
            }
        }
        $crate::raw::route::export!(Exported with_types_in $crate::raw::route);
    };
    ($plugin:ty, each) => {
        impl $crate::raw::each::exports::waypost::plugin::each::Guest for Exported {
            fn on_message(
                message: $crate::OwnMessage,
            ) -> Result<$crate::EachOutcome, $crate::Error> {
                $crate::with_plugin(&PLUGIN, |plugin| $crate::Each::on_message(plugin, message))
            }
        }
        $crate::raw::each::export!(Exported with_types_in $crate::raw::each);
    };
    ($plugin:ty, wakes) => {
        impl $crate::raw::wakes::exports::waypost::plugin::wakes::Guest for Exported {
            fn on_timer() -> Result<(), $crate::Error> {
                $crate::with_plugin(&PLUGIN, |plugin| $crate::Plugin::on_timer(plugin))
            }
        }
        $crate::raw::wakes::export!(Exported with_types_in $crate::raw::wakes);
    };
    ($plugin:ty, schema) => {
        impl $crate::raw::schema::exports::waypost::plugin::schema::Guest for Exported {
            fn settings() -> String {
                <$plugin as $crate::Plugin>::settings_schema()
            }
        }
        $crate::raw::schema::export!(Exported with_types_in $crate::raw::schema);
    };
}

/// Runs `call` on the instance's plugin; for [`export!`].
#[doc(hidden)]
pub fn with_plugin<P, T>(
    slot: &'static std::thread::LocalKey<std::cell::RefCell<Option<P>>>,
    call: impl FnOnce(&mut P) -> Result<T, Error>,
) -> Result<T, Error> {
    slot.with_borrow_mut(|plugin| match plugin {
        Some(plugin) => call(plugin),
        None => Err(Error::Internal("called before init".into())),
    })
}
