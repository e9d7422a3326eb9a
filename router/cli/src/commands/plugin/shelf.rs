//! `waypost plugin shelf`: the plugins that come with a node, and their settings.

use serde_json::{Map, Value, json};
use waypost_node::config::Grant;
use waypost_node::shelf::{self, SHELF, Stock};

use crate::failure::usage;
use crate::output::{Output, Style};
use crate::table::Table;
use crate::units;

/// List the plugins that need no code, or show one's settings
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  waypost plugin shelf                      all of them
  waypost plugin shelf redact               one's settings, and what to write into a configuration
  waypost plugin test builtin:redact --input week.jsonl --set 'remove=$.user.email'
  waypost plugin deploy private builtin:redact --set 'remove=$.user.email'

In a configuration: builtin = \"redact\" instead of a file.")]
pub struct ShelfArgs {
    /// One of them
    name: Option<String>,
}

/// Runs the command.
pub fn run(args: &ShelfArgs, output: Output) -> anyhow::Result<()> {
    match &args.name {
        None => list(output),
        Some(name) => {
            let name = name.strip_prefix(shelf::PREFIX).unwrap_or(name);
            let stock = shelf::stock(name).ok_or_else(|| usage(shelf::unknown(name)))?;
            show(stock, output)
        }
    }
}

/// What the schema of a plugin's settings says.
struct About {
    title: String,
    settings: Vec<Setting>,
    example: Option<Value>,
}

struct Setting {
    name: String,
    is_required: bool,
    words: Map<String, Value>,
}

impl About {
    fn of(stock: &Stock) -> About {
        let Some(schema) = stock.settings else {
            return About {
                title: "for earthquakes, of `waypost demo`; its source has its settings".to_owned(),
                settings: Vec::new(),
                example: None,
            };
        };
        // A test of the shelf reads each of them.
        let schema: Value = serde_json::from_str(schema).unwrap_or_default();
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        let mut settings = Vec::new();
        for part in ["patternProperties", "properties"] {
            for (name, words) in schema[part].as_object().into_iter().flatten() {
                settings.push(Setting {
                    // What a pattern is of is in its title.
                    name: words["title"].as_str().unwrap_or(name).to_owned(),
                    is_required: required.iter().any(|required| required == name),
                    words: words.as_object().cloned().unwrap_or_default(),
                });
            }
        }
        settings.sort_by_key(|setting| !setting.is_required);
        About {
            title: schema["title"].as_str().unwrap_or_default().to_owned(),
            settings,
            example: schema["examples"].get(0).cloned(),
        }
    }
}

fn roles(stock: &Stock) -> String {
    let names: Vec<_> = stock.roles.iter().map(|role| role.name()).collect();
    names.join(", ")
}

fn grants(stock: &Stock) -> Vec<&'static str> {
    stock.grants.iter().map(|grant| grant.name()).collect()
}

fn to_json(stock: &Stock) -> Value {
    let schema = stock.settings.map(serde_json::from_str::<Value>);
    json!({
        "builtin": stock.name,
        "title": About::of(stock).title,
        "roles": stock.roles.iter().map(|role| role.name()).collect::<Vec<_>>(),
        "grants": grants(stock),
        "bytes": stock.bytes(),
        "digest": stock.digest(),
        "settings": schema.and_then(Result::ok),
    })
}

fn list(output: Output) -> anyhow::Result<()> {
    if output.is_json() {
        return SHELF
            .iter()
            .try_for_each(|stock| output.json(&to_json(stock)));
    }
    let mut table = Table::new(&["builtin", "role", "what it does"]);
    for stock in SHELF {
        table.row([stock.name.to_owned(), roles(stock), About::of(stock).title]);
    }
    output.lines(table.lines(0, output.style()))?;
    output.line("")?;
    output.line("`waypost plugin shelf NAME` shows one's settings.")
}

fn show(stock: &Stock, output: Output) -> anyhow::Result<()> {
    if output.is_json() {
        return output.json(&to_json(stock));
    }
    let about = About::of(stock);
    let style = output.style();
    output.line(format!("{}: {}", style.bold(stock.name), about.title))?;
    let size = units::size(stock.bytes());
    output.line(style.dim(&format!("{}, {size}", roles(stock))))?;
    for setting in &about.settings {
        output.line("")?;
        output.lines(setting.lines(style))?;
    }
    if let Some(example) = &about.example {
        output.line("")?;
        output.lines(toml_of(stock, example))?;
    }
    Ok(())
}

/// A line of a setting's words, at most.
const WIDTH: usize = 88;

impl Setting {
    fn lines(&self, style: Style) -> Vec<String> {
        let mut facts = Vec::new();
        if self.is_required {
            facts.push("needed".to_owned());
        }
        let range = (self.words.get("minimum"), self.words.get("maximum"));
        match (self.words.get("enum").and_then(Value::as_array), range) {
            (Some(words), _) => {
                let words: Vec<_> = words.iter().map(plain).collect();
                facts.push(words.join(" | "));
            }
            (None, (Some(low), Some(high))) => facts.push(format!("{low} to {high}")),
            _ => {}
        }
        if let Some(default) = self.words.get("default") {
            facts.push(format!("default {}", plain(default)));
        }
        let head = format!("  {}", style.bold(&self.name));
        let head = match facts.is_empty() {
            true => head,
            false => format!("{head}  {}", style.dim(&facts.join("; "))),
        };
        let mut lines = vec![head];
        let text = self.words.get("description").and_then(Value::as_str);
        let mut line = String::from("     ");
        for word in text.unwrap_or_default().split(' ') {
            if line.len() + word.len() >= WIDTH {
                lines.push(std::mem::replace(&mut line, String::from("     ")));
            }
            line.push(' ');
            line.push_str(word);
        }
        lines.push(line);
        if let Some(examples) = self.words.get("examples").and_then(Value::as_array) {
            let examples: Vec<_> = examples.iter().map(plain).collect();
            let text = format!("      such as  {}", examples.join("   "));
            lines.push(style.dim(&text));
        }
        lines
    }
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// What stands in a configuration for it.
fn toml_of(stock: &Stock, example: &Value) -> Vec<String> {
    let mut lines = vec![
        "[[plugin]]".to_owned(),
        format!("name = \"my-{}\"", stock.name),
        format!("builtin = \"{}\"", stock.name),
    ];
    if let [first, _, ..] = stock.roles {
        let others = roles(stock);
        lines.push(format!(
            "role = \"{}\"                # {others}",
            first.name()
        ));
    }
    if !stock.grants.is_empty() {
        lines.push(format!("grants = {:?}", grants(stock)));
    }
    if stock.grants.contains(&Grant::Publish) {
        lines.push("publish = [\"some/#\"]".to_owned());
    }
    let settings = Map::from_iter([("settings".to_owned(), example.clone())]);
    let text = toml::to_string(&json!({ "plugin": settings })).unwrap_or_default();
    // The table `plugin` is the array's last element.
    lines.extend(
        text.lines()
            .filter(|line| *line != "[plugin]")
            .map(str::to_owned),
    );
    lines
}
