//! A table: CSV with a line of names (RFC 4180), or JSON: a list of objects, or an object of them by
//! their keys.

use std::collections::HashMap;

use shelf_kit::json::{Tree, write};

use crate::Columns;

/// Rows by their keys.
#[derive(Debug)]
pub struct Table {
    columns: Vec<String>,
    /// The column of the keys; an object of objects has none.
    key: Option<usize>,
    rows: HashMap<String, Vec<Option<Cell>>>,
}

/// A value: how it stands in JSON, and in a header.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cell {
    json: String,
    plain: String,
}

/// One row.
pub struct Row<'t> {
    table: &'t Table,
    cells: &'t [Option<Cell>],
}

impl Cell {
    /// A number, `true` or `false` is one, unless all is to be text.
    fn of(text: &str, is_text: bool) -> Cell {
        let is_value = write::is_number(text) || matches!(text, "true" | "false");
        Cell {
            json: match is_value && !is_text {
                true => text.to_owned(),
                false => write::quoted(text),
            },
            plain: text.to_owned(),
        }
    }
}

impl Table {
    /// Reads one. Keys are those of `column`, or of the first.
    pub fn read(text: &str, column: Option<&str>, is_text: bool) -> Result<Table, String> {
        let text = text.trim_start_matches('\u{feff}');
        match text.trim_start().chars().next() {
            None => Err("it is empty".into()),
            Some('{' | '[') => Table::of_json(text, column, is_text),
            Some(_) => Table::of_csv(text, column, is_text),
        }
    }

    fn of_csv(text: &str, column: Option<&str>, is_text: bool) -> Result<Table, String> {
        let mut lines = csv(text)?.into_iter();
        let (_, columns) = lines.next().ok_or("it is empty")?;
        let mut table = Table::new(columns, column)?;
        for (line, cells) in lines {
            if cells.len() != table.columns.len() {
                return Err(format!(
                    "line {line} has {} values, expected {}, as in the first",
                    cells.len(),
                    table.columns.len()
                ));
            }
            let key = table.key.map(|at| cells[at].clone()).unwrap_or_default();
            let cell = |text: &String| (!text.is_empty()).then(|| Cell::of(text, is_text));
            let cells = cells.iter().map(cell).collect();
            table.put(key, cells, &format!("line {line}"))?;
        }
        Ok(table)
    }

    fn of_json(text: &str, column: Option<&str>, is_text: bool) -> Result<Table, String> {
        let tree = Tree::read(text.as_bytes()).map_err(|wrong| {
            let (problem, offset) = (wrong.problem, wrong.offset);
            format!("it is not JSON: {problem} at byte {offset}")
        })?;
        let rows: Vec<(Option<String>, &Tree<'_>)> = match &tree {
            Tree::Array(elements) => elements.iter().map(|row| (None, row)).collect(),
            Tree::Object(members) => {
                let row = |(key, row)| (Some(String::from(key)), row);
                let members = members.iter().map(|(key, row)| (key.as_ref(), row));
                members.map(row).collect()
            }
            _ => return Err("it is neither a list nor an object".into()),
        };
        let mut columns = Vec::new();
        for (at, (_, row)) in rows.iter().enumerate() {
            let Tree::Object(members) = row else {
                return Err(format!("row {at} is no object"));
            };
            for (name, _) in members {
                if !columns.iter().any(|known| known == name) {
                    columns.push(name.to_string());
                }
            }
        }
        let has_keys = matches!(tree, Tree::Object(_));
        let mut table = match has_keys && column.is_none() {
            true => Table {
                columns,
                key: None,
                rows: HashMap::new(),
            },
            false => Table::new(columns, column)?,
        };
        for (at, (key, row)) in rows.into_iter().enumerate() {
            let value = |name: &String| row.member(name).and_then(|value| cell(value, is_text));
            let cells: Vec<_> = table.columns.iter().map(value).collect();
            let own = table.key.and_then(|at| cells[at].clone());
            let key = own.map(|cell| cell.plain).or(key);
            let key = key.ok_or_else(|| format!("row {at} has no key"))?;
            table.put(key, cells, &format!("row {at}"))?;
        }
        Ok(table)
    }

    fn new(columns: Vec<String>, key: Option<&str>) -> Result<Table, String> {
        for (at, name) in columns.iter().enumerate() {
            if columns[..at].contains(name) {
                return Err(format!("it has the column '{name}' twice"));
            }
        }
        let at = match key {
            None => Some(0).filter(|_| !columns.is_empty()),
            Some(key) => columns.iter().position(|name| name == key),
        };
        match at {
            Some(at) => Ok(Table {
                columns,
                key: Some(at),
                rows: HashMap::new(),
            }),
            None => Err(format!(
                "it has no column '{}', but {}",
                key.unwrap_or_default(),
                columns.join(", ")
            )),
        }
    }

    fn put(&mut self, key: String, row: Vec<Option<Cell>>, place: &str) -> Result<(), String> {
        if self.rows.contains_key(&key) {
            return Err(format!("{place} has the key '{key}' again"));
        }
        self.rows.insert(key, row);
        Ok(())
    }

    /// The names of all columns.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The place of a column.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|known| known == name)
    }

    /// All columns but the keys'.
    pub fn others(&self) -> Vec<usize> {
        let all = 0..self.columns.len();
        all.filter(|at| self.key != Some(*at)).collect()
    }

    /// The row of a key.
    pub fn row(&self, key: &str) -> Option<Row<'_>> {
        let cells = self.rows.get(key)?;
        Some(Row { table: self, cells })
    }
}

/// A value of JSON; nothing for `null`.
fn cell(value: &Tree<'_>, is_text: bool) -> Option<Cell> {
    match value {
        Tree::Null => None,
        Tree::Text(text) => Some(Cell {
            json: write::quoted(text),
            plain: text.to_string(),
        }),
        Tree::Number(text) => Some(Cell::of(text, is_text)),
        Tree::Boolean(value) => Some(Cell::of(&value.to_string(), is_text)),
        other => {
            let mut json = Vec::new();
            other.write(&mut json);
            let json = String::from_utf8(json).unwrap_or_default();
            Some(Cell {
                plain: json.clone(),
                json,
            })
        }
    }
}

impl Row<'_> {
    /// A value as a header has it; empty where there is none.
    pub fn plain(&self, column: usize) -> String {
        let cell = self.cells.get(column).and_then(Option::as_ref);
        cell.map(|cell| cell.plain.clone()).unwrap_or_default()
    }

    /// Values as JSON; `null` where there is none.
    pub fn json(&self, columns: &Columns) -> Vec<u8> {
        let json = |column: usize| {
            let cell = self.cells.get(column).and_then(Option::as_ref);
            cell.map_or("null", |cell| cell.json.as_str())
        };
        match columns {
            Columns::One(column) => json(*column).into(),
            Columns::Object(columns) => {
                let mut object = vec![b'{'];
                for (index, column) in columns.iter().enumerate() {
                    if index > 0 {
                        object.push(b',');
                    }
                    write::text(&mut object, &self.table.columns[*column]);
                    object.push(b':');
                    object.extend_from_slice(json(*column).as_bytes());
                }
                object.push(b'}');
                object
            }
        }
    }
}

/// The values of each line that is not empty, with its number.
fn csv(text: &str) -> Result<Vec<(usize, Vec<String>)>, String> {
    let mut lines = Vec::new();
    let (mut cells, mut cell) = (Vec::new(), String::new());
    let (mut line, mut begun) = (1, 1);
    let mut chars = text.chars().peekable();
    let mut was_quoted = false;
    while let Some(c) = chars.next() {
        match c {
            '"' if cell.is_empty() && !was_quoted => {
                was_quoted = true;
                loop {
                    match chars.next() {
                        Some('"') if chars.peek() == Some(&'"') => {
                            chars.next();
                            cell.push('"');
                        }
                        Some('"') => break,
                        Some(c) => {
                            line += usize::from(c == '\n');
                            cell.push(c);
                        }
                        None => return Err(format!("line {begun} has a quote without its end")),
                    }
                }
            }
            ',' => {
                cells.push(std::mem::take(&mut cell));
                was_quoted = false;
            }
            '\n' => {
                if !cell.is_empty() || !cells.is_empty() || was_quoted {
                    cells.push(std::mem::take(&mut cell));
                    lines.push((begun, std::mem::take(&mut cells)));
                }
                was_quoted = false;
                line += 1;
                begun = line;
            }
            '\r' if chars.peek() == Some(&'\n') => {}
            _ if was_quoted => return Err(format!("line {line} goes on after a quote's end")),
            c => cell.push(c),
        }
    }
    if !cell.is_empty() || !cells.is_empty() || was_quoted {
        cells.push(cell);
        lines.push((begun, cells));
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(table: &Table, key: &str, column: &str) -> String {
        let at = table.column(column).expect("a column");
        let row = table.row(key).expect("a row");
        String::from_utf8(row.json(&Columns::One(at))).expect("UTF-8")
    }

    #[test]
    fn csv_as_spreadsheets_write_it() {
        let text = "\u{feff}id,name,lat\r\n7,\"Ulm, \"\"Nord\"\"\",48.4\r\n\r\n8,\"a\nb\",\n";
        let table = Table::read(text, None, false).expect("a table");
        assert_eq!(look(&table, "7", "name"), r#""Ulm, \"Nord\"""#);
        assert_eq!(
            (look(&table, "7", "lat"), look(&table, "8", "lat")),
            ("48.4".into(), "null".into())
        );
        assert_eq!(look(&table, "8", "name"), r#""a\nb""#);
        assert!(table.row("9").is_none());
        let table = Table::read(text, Some("lat"), true).expect("a table");
        assert_eq!(
            (look(&table, "48.4", "id"), table.others()),
            ("\"7\"".into(), vec![0, 1])
        );
    }

    #[test]
    fn json_lists_and_objects() {
        let list = r#"[{"id":7,"x":{"y":[1]}},{"id":"8","z":null}]"#;
        let table = Table::read(list, Some("id"), false).expect("a table");
        assert_eq!(
            (look(&table, "7", "x"), look(&table, "8", "z")),
            (r#"{"y":[1]}"#.into(), "null".into())
        );
        let object = r#"{"a":{"n":1},"b":{"m":true}}"#;
        let table = Table::read(object, None, false).expect("a table");
        assert_eq!(
            (look(&table, "a", "n"), look(&table, "b", "m")),
            ("1".into(), "true".into())
        );
        assert_eq!(table.others(), [0, 1]);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, column, word) in [
            ("", None, "it is empty"),
            ("a,b\n1\n", None, "line 2 has 1 values, expected 2"),
            ("a,b\n1,2\n\n1,3\n", None, "line 4 has the key '1' again"),
            ("a,a\n", None, "the column 'a' twice"),
            ("a,b\n", Some("c"), "no column 'c', but a, b"),
            ("a\n\"x", None, "line 2 has a quote without its end"),
            ("a\n\"x\"y", None, "line 2 goes on after"),
            ("[1]", None, "row 0 is no object"),
            ("[{\"a\":1},{\"b\":1}]", Some("a"), "row 1 has no key"),
            ("{\"a\":", None, "it is not JSON"),
        ] {
            let error = Table::read(text, column, false).expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
