//! Calls a plugin on messages, as a node's worker does: in batches, one instance after the other
//! where a call costs one, and a batch that failed again message by message. In a time of its own, the
//! timer rings when its time has come between two calls.

use std::sync::{Arc, Mutex};

use waypost_client::RecordRef;
use waypost_host::{
    CallError, CallErrorKind, Effects as HostEffects, Instance, InstanceError, Level, MessageRef,
    Plugin, Published, Sample, Sink, State, Verdict,
};

use super::entry::{Cause, Effects, Entry};
use super::input::{Input, Inputs};
use super::state::Memory;
use super::time::{Course, TrialClock};

/// Takes down what a plugin logs and counts.
#[derive(Debug, Default)]
pub struct Notebook(Mutex<Effects>);

impl Notebook {
    /// What was taken down since the last time.
    pub fn take(&self) -> Effects {
        std::mem::take(&mut *self.effects())
    }

    fn effects(&self) -> std::sync::MutexGuard<'_, Effects> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Sink for Notebook {
    fn log(&self, _: &str, level: Level, line: &str) {
        self.effects().log.push((level, line.to_owned()));
    }

    fn log_dropped(&self, _: &str, lines: u64) {
        self.effects().log_dropped += lines;
    }

    fn metric(&self, _: &str, name: &str, sample: Sample) {
        self.effects().metrics.push((name.to_owned(), sample));
    }
}

/// A plugin under trial.
#[derive(Debug)]
pub struct Trial {
    plugin: Plugin,
    instance: Instance,
    memory: Memory,
    notebook: Arc<Notebook>,
    /// The clock, and where it is, where the trial has a time of its own.
    time: Option<(Arc<TrialClock>, Course)>,
}

impl Trial {
    /// Starts an instance; gives also what it did in `init`. With `from_ms` the trial has a time of
    /// its own, which begins there; without it, `clock` is the machine's.
    pub fn start(
        plugin: Plugin,
        notebook: Arc<Notebook>,
        clock: &Arc<TrialClock>,
        from_ms: Option<u64>,
    ) -> Result<(Trial, Effects), InstanceError> {
        clock.clear();
        let mut time = from_ms.map(|from_ms| {
            clock.set(from_ms);
            (clock.clone(), Course::new(from_ms))
        });
        let mut memory = Memory::new(plugin.spec().limits.state_bytes);
        let mut instance = plugin.instantiate(state_of(&plugin, &mut memory))?;
        let mut effects = notebook.take();
        effects.timer_ms = instance.take_timer();
        if let Some((_, course)) = &mut time {
            course.ask(effects.timer_ms);
        }
        let trial = Trial {
            plugin,
            instance,
            memory,
            notebook,
            time,
        };
        Ok((trial, effects))
    }

    /// The destinations that route answers count into.
    pub fn destinations(&self) -> &[String] {
        &self.plugin.spec().destinations
    }

    /// Runs the plugin on `inputs`, `batch` at a time; `each` takes what became of each, in order.
    pub fn run<'a>(
        &mut self,
        inputs: &'a Inputs,
        batch: usize,
        mut each: impl FnMut(Entry<'a>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        for batch in inputs.messages.chunks(batch.max(1)) {
            let at_ms = batch.first().map_or(0, |input| input.receive_time_ms);
            self.go_to(at_ms, &mut each)?;
            match self.call(batch) {
                Ok((verdicts, effects)) => hand_out(batch, verdicts, effects, &mut each)?,
                // As a node does: it looks for the message at fault.
                Err(error) if batch.len() > 1 && error.is_splittable() => {
                    for one in batch.chunks(1) {
                        self.run_one(one, &mut each)?;
                    }
                }
                Err(error) => {
                    let effects = self.notebook.take();
                    let failed = batch.iter().map(|_| Err(error.clone())).collect();
                    hand_out(batch, failed, effects, &mut each)?;
                }
            }
        }
        self.go_to(inputs.end_ms, &mut each)
    }

    /// Time goes on, where the trial has one of its own, and the timer rings on the way.
    fn go_to<'a>(
        &mut self,
        to_ms: u64,
        each: &mut impl FnMut(Entry<'a>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        loop {
            let Some((clock, course)) = &mut self.time else {
                return Ok(());
            };
            let rings = course.ring(to_ms).map_err(anyhow::Error::msg)?;
            if !rings {
                course.go_to(to_ms);
                clock.set(course.now_ms());
                return Ok(());
            }
            let at_ms = course.now_ms();
            clock.set(at_ms);
            let (verdict, effects) = match self.wake(at_ms) {
                Ok(effects) => (Ok(Verdict::Pass), effects),
                Err(error) => (Err(error), self.notebook.take()),
            };
            each(Entry {
                cause: Cause::Timer { at_ms },
                verdict,
                effects,
            })?;
        }
    }

    /// One call of `on-timer`.
    fn wake(&mut self, at_ms: u64) -> Result<Effects, CallError> {
        self.replace_lost()?;
        self.memory.begin(at_ms);
        let mut made = HostEffects {
            state: state_of(&self.plugin, &mut self.memory),
            published: Vec::new(),
        };
        let woken = self.instance.wake(&mut made);
        let published = made.published;
        self.end(woken.map(|()| (Vec::new(), published)))
            .map(|(_, effects)| effects)
    }

    /// As a node does after a call that cost the instance.
    fn replace_lost(&mut self) -> Result<(), CallError> {
        if self.instance.is_lost() {
            let state = state_of(&self.plugin, &mut self.memory);
            self.instance = self.plugin.instantiate(state).map_err(restart_failed)?;
            let timer_ms = self.instance.take_timer();
            if let Some((_, course)) = &mut self.time {
                // What the lost one asked for went with it.
                course.ask(Some(timer_ms.unwrap_or(0)));
            }
        }
        Ok(())
    }

    /// Keeps what a call did, or undoes it.
    fn end(
        &mut self,
        called: Result<(Vec<Verdict>, Vec<Published>), CallError>,
    ) -> Result<(Vec<Verdict>, Effects), CallError> {
        let (verdicts, published) = match called {
            Ok(called) => called,
            Err(error) => {
                self.memory.undo();
                return Err(error);
            }
        };
        let mut effects = self.notebook.take();
        effects.state = self.memory.keep();
        effects.published = published;
        effects.timer_ms = self.instance.take_timer();
        if let Some((_, course)) = &mut self.time {
            course.ask(effects.timer_ms);
        }
        Ok((verdicts, effects))
    }

    fn run_one<'a>(
        &mut self,
        one: &'a [Input],
        each: &mut impl FnMut(Entry<'a>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let (verdicts, effects) = self
            .call(one)
            .unwrap_or_else(|error| (vec![Err(error)], self.notebook.take()));
        hand_out(one, verdicts, effects, each)
    }

    /// One call. What a failed one logged stays in the notebook.
    fn call(
        &mut self,
        batch: &[Input],
    ) -> Result<(Vec<Result<Verdict, CallError>>, Effects), CallError> {
        self.replace_lost()?;
        let refs: Vec<MessageRef<'_>> = batch.iter().filter_map(message_ref).collect();
        self.memory
            .begin(batch.first().map_or(0, |input| input.receive_time_ms));
        let mut made = HostEffects {
            state: state_of(&self.plugin, &mut self.memory),
            published: Vec::new(),
        };
        let verdicts = self.instance.call(&refs, &mut made);
        let published = made.published;
        let called = verdicts.map(|verdicts| (verdicts.into_iter().collect(), published));
        let (verdicts, effects) = self.end(called)?;
        Ok((verdicts.into_iter().map(Ok).collect(), effects))
    }
}

/// What the plugin's `state` works on, where it uses it.
pub fn state_of<'a>(plugin: &Plugin, memory: &'a mut Memory) -> Option<&'a mut dyn State> {
    plugin.uses_state().then_some(memory as &mut dyn State)
}

/// A message as the host takes it.
pub fn message_ref(input: &Input) -> Option<MessageRef<'_>> {
    let record = RecordRef::parse(&input.body).ok()?;
    let mut message = MessageRef::new(record, input.receive_time_ms);
    message.redelivered = input.redelivered;
    Some(message)
}

/// It started before, so that this is the plugin's failure and not a wrong setting.
fn restart_failed(error: InstanceError) -> CallError {
    CallError {
        kind: CallErrorKind::Internal,
        message: error.to_string(),
        backtrace: None,
        instance_lost: true,
    }
}

fn hand_out<'a>(
    batch: &'a [Input],
    verdicts: Vec<Result<Verdict, CallError>>,
    mut effects: Effects,
    each: &mut impl FnMut(Entry<'a>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let last = batch.len().saturating_sub(1);
    for (index, (input, verdict)) in batch.iter().zip(verdicts).enumerate() {
        let effects = match index == last {
            true => std::mem::take(&mut effects),
            false => Effects::default(),
        };
        each(Entry {
            cause: Cause::Message(input),
            verdict,
            effects,
        })?;
    }
    Ok(())
}
