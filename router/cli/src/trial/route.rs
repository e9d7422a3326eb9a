//! A message's way through all plugins of a route, as a node's worker takes it: what one plugin makes
//! of it is what the next one gets.

use std::sync::Arc;

use anyhow::anyhow;
use serde_json::{Value, json};
use waypost_client::Message;
use waypost_host::{Engine, Role, Verdict};
use waypost_node::config::{Config, OnError, RouteConfig};

use super::entry::Entry;
use super::input::{Input, Inputs, from_message};
use super::run::{Notebook, Trial};
use super::show;
use super::time::TrialClock;
use crate::failure::usage;
use crate::output::Style;

/// A route under trial.
pub struct RouteTrial {
    stages: Vec<Stage>,
    to: Vec<String>,
}

struct Stage {
    name: String,
    role: Role,
    on_error: OnError,
    trial: Trial,
}

/// What one plugin did with one message.
pub struct Step {
    /// As JSON, with the plugin's name.
    pub json: Value,
    /// For people.
    pub lines: Vec<String>,
}

/// What became of one message.
#[derive(Default)]
pub struct Followed {
    /// In the order in which the plugins were called.
    pub steps: Vec<Step>,
    /// Where it, or what was made of it, came to: destinations, or the verdict that ended it.
    pub ends: Vec<String>,
    /// A plugin failed on it.
    pub is_failed: bool,
}

/// What goes on from a plugin.
enum Next {
    Messages(Vec<Message>),
    Same,
    Ends(Vec<String>),
}

impl RouteTrial {
    /// Loads and starts the plugins of a route.
    pub fn start(
        config: &Config,
        route: &RouteConfig,
        engine: &Engine,
        notebook: &Arc<Notebook>,
    ) -> anyhow::Result<RouteTrial> {
        let to: Vec<String> = route.to.iter().map(ToString::to_string).collect();
        let mut stages = Vec::new();
        for name in &route.through {
            let plugin = config.plugin(name);
            let plugin = plugin.ok_or_else(|| usage(format!("no plugin {name:?}")))?;
            let spec = waypost_node::plugin_spec(config, plugin, to.clone())?;
            let spec = spec.ok_or_else(|| {
                usage(format!(
                    "plugin {name:?}: its component is not named by the configuration, or was not \
                     pulled yet"
                ))
            })?;
            let loaded = engine.load(spec)?;
            let role = loaded.role();
            let (trial, _) = Trial::start(
                loaded,
                notebook.clone(),
                &Arc::<TrialClock>::default(),
                None,
            )?;
            stages.push(Stage {
                name: name.clone(),
                role,
                on_error: plugin.on_error,
                trial,
            });
        }
        Ok(RouteTrial { stages, to })
    }

    /// Takes one message through.
    pub fn follow(&mut self, input: &Input, style: Style) -> anyhow::Result<Followed> {
        let mut followed = Followed::default();
        self.stage(0, input.clone(), style, &mut followed)?;
        Ok(followed)
    }

    fn stage(
        &mut self,
        index: usize,
        input: Input,
        style: Style,
        followed: &mut Followed,
    ) -> anyhow::Result<()> {
        let Some(stage) = self.stages.get_mut(index) else {
            followed.ends.extend(self.to.iter().cloned());
            return Ok(());
        };
        let inputs = Inputs {
            end_ms: input.receive_time_ms,
            messages: vec![input],
        };
        let (name, role, on_error, to) = (&stage.name, stage.role, stage.on_error, &self.to);
        let mut next = Next::Same;
        stage.trial.run(&inputs, 1, |entry| {
            let mut json = entry.to_json(to);
            json["plugin"] = json!(name);
            let mut lines = show::entry(&entry, to, style);
            if let Some(first) = lines.first_mut() {
                *first = format!("{}  {}", style.bold(name), first.trim_start());
            }
            followed.steps.push(Step { json, lines });
            followed.is_failed |= entry.is_failed();
            next = next_of(&entry, role, on_error, to);
            Ok(())
        })?;
        let Some(input) = inputs.messages.into_iter().next() else {
            return Ok(());
        };
        match next {
            Next::Same => self.stage(index + 1, input, style, followed),
            Next::Ends(ends) => {
                followed.ends.extend(ends);
                Ok(())
            }
            Next::Messages(messages) => {
                for message in messages {
                    let (line, time) = (input.line, input.receive_time_ms);
                    let made = from_message(message, line, input.redelivered, time);
                    let made = made.map_err(|error| anyhow!("offset {line}: {error}"))?;
                    self.stage(index + 1, made, style, followed)?;
                }
                Ok(())
            }
        }
    }
}

fn next_of(entry: &Entry<'_>, role: Role, on_error: OnError, to: &[String]) -> Next {
    let end = |word: &str| Next::Ends(vec![word.to_owned()]);
    match &entry.verdict {
        // From a route plugin: to all of them, and no other plugin comes after it.
        Ok(Verdict::Pass) if role == Role::Route => Next::Ends(to.to_vec()),
        Ok(Verdict::Pass) => Next::Same,
        Ok(Verdict::Edit(_)) => Next::Messages(entry.edited().into_iter().collect()),
        Ok(Verdict::Emit(emitted)) => {
            let messages = emitted.iter().cloned();
            Next::Messages(messages.map(|outgoing| outgoing.into_message()).collect())
        }
        Ok(Verdict::To(chosen)) => {
            let name = |index: &u32| to.get(*index as usize).cloned();
            Next::Ends(chosen.as_slice().iter().filter_map(name).collect())
        }
        Ok(
            Verdict::Drop(_) | Verdict::Reject(_) | Verdict::Retry { .. } | Verdict::DeadLetter(_),
        ) => end(entry.word()),
        Ok(Verdict::Failed(_) | Verdict::Violation(_)) | Err(_) => match on_error {
            OnError::Pass => Next::Same,
            OnError::DeadLetter => end("failed: dead-letter"),
            OnError::Reject => end("failed: reject"),
        },
    }
}
