//! A program of jq, run by [jaq](https://github.com/01mf02/jaq).

use jaq_core::data::JustLut;
use jaq_core::load::{self, Arena, File, Loader};
use jaq_core::native::{bome, run, v};
use jaq_core::{Compiler, Ctx, Error, Exn, Filter, Vars, compile};
use jaq_json::{Map, Val, read};
use shelf_kit::json::DEPTH_MAX;

/// What runs: values without anything around them.
type Data = JustLut<Val>;

/// A program that was compiled.
pub struct Program(Filter<Data>);

/// Variables that a program may use, in the order in which it is given them.
pub const VARIABLES: [&str; 6] = [
    "$topic",
    "$headers",
    "$key",
    "$content_type",
    "$message_id",
    "$received",
];

/// Results of one run, at most.
const RESULTS_MAX: usize = 1_024;

impl Program {
    /// Compiles one. The error says what is wrong, and where.
    pub fn compile(code: &str) -> Result<Program, String> {
        let defs = jaq_core::defs()
            .chain(jaq_std::defs())
            .chain(jaq_json::defs());
        let all = jaq_core::funs::<Data>()
            .chain(jaq_std::funs::<Data>())
            .chain(jaq_json::funs::<Data>());
        // The clock of a guest is its router's, and it has no environment.
        let others = all.filter(|(name, ..)| !["now", "env", "fromjson"].contains(name));
        let own = [
            run::<Data>(("now", v(0), |_| {
                bome(Ok(Val::from(waypost_plugin::host::now_ms() as f64 / 1e3)))
            })),
            run::<Data>(("env", v(0), |_| bome(Ok(Val::obj(Map::default()))))),
            run::<Data>(("fromjson", v(0), |(_, text)| {
                Box::new(
                    from_json(&text)
                        .into_iter()
                        .map(|value| value.map_err(Exn::from)),
                )
            })),
        ];
        let arena = Arena::default();
        let file = File { code, path: () };
        let modules = Loader::new(defs)
            .load(&arena, file)
            .map_err(|errors| first_of(code, errors, not_loaded))?;
        let filter = Compiler::default()
            .with_funs(others.chain(own))
            .with_global_vars(VARIABLES)
            .compile(modules)
            .map_err(|errors| first_of(code, errors, not_compiled))?;
        Ok(Program(filter))
    }

    /// The first value that it gives for one; what would come after it is not looked for.
    pub fn first(
        &self,
        input: Val,
        variables: [Val; VARIABLES.len()],
    ) -> Result<Option<Val>, String> {
        let ctx = Ctx::<Data>::new(&self.0.lut, Vars::new(variables));
        match self.0.id.run((ctx, input)).next() {
            None => Ok(None),
            Some(Ok(value)) => Ok(Some(value)),
            Some(Err(exception)) => match exception.get_err() {
                Ok(error) => Err(said(&error)),
                // `halt`
                Err(_) => Ok(None),
            },
        }
    }

    /// Runs it on a value. The error has jq's words.
    pub fn run(&self, input: Val, variables: [Val; VARIABLES.len()]) -> Result<Vec<Val>, String> {
        let ctx = Ctx::<Data>::new(&self.0.lut, Vars::new(variables));
        let mut results = Vec::new();
        for result in self.0.id.run((ctx, input)) {
            match result {
                Ok(value) if results.len() < RESULTS_MAX => results.push(value),
                Ok(_) => return Err(format!("the program gives more than {RESULTS_MAX} values")),
                Err(exception) => match exception.get_err() {
                    Ok(error) => return Err(said(&error)),
                    // `halt`: what came before counts.
                    Err(_) => return Ok(results),
                },
            }
        }
        Ok(results)
    }
}

/// `fromjson`, which nests as deep as a payload may: jaq's own has no bound.
fn from_json(text: &Val) -> Vec<Result<Val, Error<Val>>> {
    let cannot =
        |problem: String| Error::str(format_args!("cannot parse {text} as JSON: {problem}"));
    let (Val::TStr(bytes) | Val::BStr(bytes)) = text else {
        return vec![Err(Error::typ(text.clone(), "string"))];
    };
    if depth(bytes) > DEPTH_MAX {
        return vec![Err(Error::str(
            "cannot parse a text as JSON: nested too deep",
        ))];
    }
    let values = read::parse_many(bytes);
    values
        .map(|value| value.map_err(|error| cannot(error.to_string())))
        .collect()
}

/// How deep a text of JSON is nested, or of what jaq reads beside it, which has comments.
fn depth(text: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'#' => drop(bytes.find(|byte| **byte == b'\n')),
            b'"' => {
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'"' => break,
                        b'\\' => drop(bytes.next()),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    deepest
}

fn said(error: &Error<Val>) -> String {
    let words = error.to_string();
    let short = shelf_kit::subject::shortened(&words);
    format!("jq: {short}")
}

/// The first mistake, with its place in the program.
fn first_of<E>(
    code: &str,
    errors: load::Errors<&str, (), E>,
    words: impl Fn(&str, &E) -> Option<(String, usize)>,
) -> String {
    // Mistakes of the libraries' own definitions are not the operator's.
    let own = errors.iter().filter(|(file, _)| file.code == code);
    let mut described = own.filter_map(|(_, error)| words(code, error));
    match described.next() {
        Some((problem, at)) => {
            let (line, column) = place(code, at);
            format!("{problem} at line {line}, column {column}")
        }
        None => "it is not a program of jq".to_owned(),
    }
}

fn place(code: &str, at: usize) -> (usize, usize) {
    let before = code.get(..at).unwrap_or(code);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    (line, before[start..].chars().count() + 1)
}

fn not_loaded(code: &str, error: &load::Error<&str>) -> Option<(String, usize)> {
    let at = |found: &str| load::span(code, found).start;
    let shown = |found: &str| match found {
        "" => "the end".to_owned(),
        found => format!("'{}'", found.chars().take(20).collect::<String>()),
    };
    match error {
        load::Error::Io(all) => {
            let (path, _) = all.first()?;
            Some((format!("there are no modules here: '{path}'"), at(path)))
        }
        load::Error::Lex(all) => {
            let (expected, found) = all.first()?;
            let text = format!("{} expected, found {}", expected.as_str(), shown(found));
            Some((text, at(found)))
        }
        load::Error::Parse(all) => {
            let (expected, found) = all.first()?;
            let text = format!("{} expected, found {}", expected.as_str(), shown(found));
            Some((text, at(found)))
        }
    }
}

fn not_compiled(code: &str, error: &Vec<compile::Error<&str>>) -> Option<(String, usize)> {
    let (name, what) = error.first()?;
    let arity = match what {
        compile::Undefined::Filter(arity) => format!("/{arity}"),
        _ => String::new(),
    };
    let text = format!("there is no {} '{name}{arity}'", what.as_str());
    Some((text, load::span(code, name).start))
}
