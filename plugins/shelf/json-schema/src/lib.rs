//! Lets messages through whose payload is JSON that fits a schema. The settings are described in
//! `settings.json`, the keywords in `docs/shelf.md`.

mod canonical;
mod check;
mod parts;
mod read;
mod scalar;
mod schema;
mod stop;

use schema::Schema;
use shelf_kit::json::Tree;
use shelf_kit::{Fate, Settings};
use waypost_plugin::{Answer, Config, Decision, Filter, InitError, Interest, Message, Plugin};

struct Gate {
    schema: Schema,
    otherwise: Fate,
}

impl Plugin for Gate {
    fn init(config: &Config) -> Result<(Gate, Interest), InitError> {
        let settings = Settings::new(config);
        let text = settings.required("schema", "a JSON Schema, mostly a file by settings_files")?;
        let schema = read::schema(text).map_err(|error| InitError::of("schema", error))?;
        let otherwise = Fate::of(&settings, "otherwise", Fate::DeadLetter)?;
        settings.finish()?;
        let gate = Gate { schema, otherwise };
        Ok((gate, Interest::nothing().payload()))
    }

    fn settings_schema() -> String {
        include_str!("../settings.json").into()
    }
}

impl Filter for Gate {
    fn filter(&mut self, message: &Message<'_>) -> Answer {
        let tree = match Tree::read(message.payload()) {
            Ok(tree) => tree,
            Err(not_json) => return self.otherwise.answer(not_json.to_string()),
        };
        match self.schema.check(&tree, message.payload().len()) {
            Ok(()) => Decision::Pass.into(),
            Err(stop) => self.otherwise.answer(stop.to_string()),
        }
    }
}

waypost_plugin::export!(Gate: filter, schema);

#[cfg(test)]
mod tests;
