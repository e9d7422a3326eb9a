//! Adds to messages what a table says of them. The settings are described in `settings.json`.

mod table;

use shelf_kit::json::edit::{self, Change};
use shelf_kit::json::{Found, Path};
use shelf_kit::{Fate, OnInvalid, Seen, Settings, Subjects, Template, settings};
use table::Table;
use waypost_plugin::{Config, Edit, InitError, Interest, Message, Outcome, Plugin, Transform};

struct Enrich {
    subjects: Subjects,
    /// What of a message is looked up.
    key: Template,
    table: Table,
    /// Members of the payload, and the columns that they get.
    members: Vec<Member>,
    headers: Vec<(String, usize)>,
    on_missing: Fate,
    on_invalid: OnInvalid,
}

/// A member that is added, or replaced where it is there.
struct Member {
    name: String,
    /// The number of its path.
    path: usize,
    columns: Columns,
}

enum Columns {
    /// The value of one.
    One(usize),
    /// An object of several.
    Object(Vec<usize>),
}

impl Plugin for Enrich {
    fn init(config: &Config) -> Result<(Enrich, Interest), InitError> {
        let settings = Settings::new(config);
        let mut subjects = Subjects::default();
        let text = settings.required("match", "what is looked up, such as {$.sensor}")?;
        let key =
            Template::parse(text, &mut subjects).map_err(|error| InitError::of("match", error))?;
        if key.fixed().is_some() {
            let expected = "what is looked up in braces, such as {$.sensor}";
            return Err(settings::wrong("match", text, expected));
        }
        let text = settings.required("table", "a table, mostly a file by settings_files")?;
        let column = settings.text("column");
        let table = Table::read(text, column, settings.flag("as-text")?)
            .map_err(|error| InitError::of("table", error))?;
        let headers = headers(&settings, &table)?;
        let members = members(&settings, &table, &mut subjects, headers.is_empty())?;
        let enrich = Enrich {
            key,
            table,
            members,
            headers,
            on_missing: Fate::or_pass(&settings, "on-missing", Fate::Pass)?,
            on_invalid: OnInvalid::of(&settings)?,
            subjects,
        };
        settings.finish()?;
        let interest = enrich.subjects.interest();
        Ok((enrich, interest))
    }

    fn settings_schema() -> String {
        include_str!("../settings.json").into()
    }
}

fn column(table: &Table, key: &str, name: &str) -> Result<usize, InitError> {
    table.column(name).ok_or_else(|| {
        let expected = format!("a column of the table: {}", table.columns().join(", "));
        settings::wrong(key, name, &expected)
    })
}

fn headers(settings: &Settings<'_>, table: &Table) -> Result<Vec<(String, usize)>, InitError> {
    let entries = settings.table("headers").into_iter();
    entries
        .map(|entry| Ok((entry.name.to_owned(), column(table, entry.key, entry.text)?)))
        .collect()
}

/// With `into` an object, else a member for each column; all columns where none is named, unless
/// headers are.
fn members(
    settings: &Settings<'_>,
    table: &Table,
    subjects: &mut Subjects,
    has_no_headers: bool,
) -> Result<Vec<Member>, InitError> {
    let into = settings.text("into");
    let named = settings.texts("columns").into_iter();
    let mut columns = named
        .map(|(key, name)| column(table, key, name))
        .collect::<Result<Vec<_>, _>>()?;
    if columns.is_empty() && (has_no_headers || into.is_some()) {
        columns = table.others();
    }
    let mut member = |name: &str, columns| {
        let quoted = name.replace('\\', "\\\\").replace('\'', "\\'");
        let path = Path::parse(&format!("$['{quoted}']"));
        let path = path.map_err(|error| InitError::of("into", error))?;
        Ok(Member {
            name: name.to_owned(),
            path: subjects.path(path),
            columns,
        })
    };
    match into {
        Some(name) => Ok(vec![member(name, Columns::Object(columns))?]),
        None => columns
            .into_iter()
            .map(|at| member(&table.columns()[at], Columns::One(at)))
            .collect(),
    }
}

impl Enrich {
    fn outcome(&self, seen: &Seen<'_, '_>, is_json: bool) -> Outcome {
        let key = match self.key.fill(seen) {
            Ok(key) => key,
            Err(missing) => return self.on_missing.outcome(missing.to_string()),
        };
        let Some(row) = self.table.row(&key) else {
            let shown = shelf_kit::subject::shortened(&key);
            return self
                .on_missing
                .outcome(format!("the table has no '{shown}'"));
        };
        let mut edit = Edit::new();
        for (name, column) in &self.headers {
            edit = edit.header(name.as_str(), row.plain(*column));
        }
        if self.members.is_empty() || !is_json {
            return Outcome::Edit(edit);
        }
        let mut payload = self.replaced(seen, &row);
        for member in self.members.iter().filter(|member| is_new(member, seen)) {
            match edit::append(&payload, &member.name, &row.json(&member.columns)) {
                Some(longer) => payload = longer,
                None => {
                    let text = "the payload is not an object, to which something can be added";
                    return Outcome::DeadLetter(text.into());
                }
            }
        }
        Outcome::Edit(edit.payload(payload))
    }

    /// The payload with those members replaced that it has.
    fn replaced(&self, seen: &Seen<'_, '_>, row: &table::Row<'_>) -> Vec<u8> {
        let mut changes: Vec<(Found, Change)> = Vec::new();
        for member in &self.members {
            let found = seen.found.iter().filter(|found| found.path == member.path);
            for found in found {
                let json = row.json(&member.columns);
                changes.push((found.clone(), Change::Replace(json)));
            }
        }
        edit::apply(seen.message.payload(), changes)
    }
}

fn is_new(member: &Member, seen: &Seen<'_, '_>) -> bool {
    !seen.found.iter().any(|found| found.path == member.path)
}

impl Transform for Enrich {
    fn transform(&mut self, message: &Message<'_>) -> Outcome {
        // Borrowed apart: looking changes only where things were found.
        let mut subjects = std::mem::take(&mut self.subjects);
        let outcome = match subjects.look(message) {
            Ok(seen) => self.outcome(&seen, true),
            Err(not_json) => match self.on_invalid {
                OnInvalid::Fate(fate) => fate.outcome(not_json.to_string()),
                OnInvalid::Ignore => self.outcome(&subjects.look_beside(message), false),
            },
        };
        self.subjects = subjects;
        outcome
    }
}

waypost_plugin::export!(Enrich: transform, schema);

#[cfg(test)]
mod tests;
