//! Answers at once, in every role: the floor that benchmarks measure from.
//!
//! Settings: `interest` is `topic` (default), `header` (one header, `kind`, which it reads) or
//! `everything`; `answer` is `pass` (default) or `edit` (sets one header).

use waypost_plugin::{
    Answer, Choice, Config, Decision, Each, EachOutcome, Edit, Error, Filter, InitError, Interest,
    Message, Outcome, OwnMessage, Plugin, Route, Transform,
};

struct Noop {
    edit: bool,
}

impl Plugin for Noop {
    fn init(config: &Config) -> Result<(Noop, Interest), InitError> {
        config.allow(&["interest", "answer"])?;
        let interest = match config.get("interest").unwrap_or("topic") {
            "topic" => Interest::nothing(),
            "header" => Interest::nothing().header("kind"),
            "everything" => Interest::nothing().all_headers().payload(),
            other => return Err(InitError::of("interest", format!("'{other}' is unknown"))),
        };
        Ok((
            Noop {
                edit: config.get("answer") == Some("edit"),
            },
            interest,
        ))
    }
}

impl Filter for Noop {
    fn filter(&mut self, message: &Message<'_>) -> Answer {
        match message.header("kind") {
            Some(b"noise") => Decision::Drop.into(),
            _ => Decision::Pass.into(),
        }
    }
}

impl Transform for Noop {
    fn transform(&mut self, _: &Message<'_>) -> Outcome {
        if self.edit {
            Outcome::Edit(Edit::new().header("seen", "yes"))
        } else {
            Outcome::Pass
        }
    }
}

impl Route for Noop {
    fn route(&mut self, message: &Message<'_>) -> Choice {
        Choice::One(u32::from(message.header("kind") == Some(b"noise")))
    }
}

impl Each for Noop {
    fn on_message(&mut self, _: OwnMessage) -> Result<EachOutcome, Error> {
        if self.edit {
            return Ok(EachOutcome::Edit(Edit::new().header("seen", "yes")));
        }
        Ok(EachOutcome::Pass)
    }
}

waypost_plugin::export!(Noop: filter, transform, route, each);
