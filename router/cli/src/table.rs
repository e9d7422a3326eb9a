//! Text in columns, with a line under the head.

use crate::output::Style;

/// How a column is aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Rows that are aligned when all of them are known.
#[derive(Debug)]
pub struct Table {
    head: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns. A name that ends in `#` is a column of numbers, and shown
    /// without the `#`.
    pub fn new(columns: &[&'static str]) -> Table {
        let column = |name: &&'static str| match name.strip_suffix('#') {
            Some(name) => (name, Align::Right),
            None => (*name, Align::Left),
        };
        Table {
            head: columns.iter().map(column).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; missing cells are empty, more than there are columns are left out.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// The lines, each indented by `indent` spaces, without trailing spaces.
    pub fn lines(&self, indent: usize, style: Style) -> Vec<String> {
        let widths: Vec<usize> = (0..self.head.len())
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                let longest = cells.map(|cell| width(cell)).max().unwrap_or(0);
                longest.max(width(self.head[column].0))
            })
            .collect();
        let indent = " ".repeat(indent);
        let line = |cell: &dyn Fn(usize) -> String| {
            let mut text = indent.clone();
            for (column, width_max) in widths.iter().enumerate() {
                let cell = cell(column);
                let padding = " ".repeat(width_max - width(&cell));
                text.push_str(if column > 0 { "   " } else { "" });
                match self.head[column].1 {
                    Align::Left => text.extend([cell, padding]),
                    Align::Right => text.extend([padding, cell]),
                }
            }
            text.truncate(text.trim_end().len());
            text
        };
        let mut lines = vec![style.dim(&line(&|column| self.head[column].0.to_owned()))];
        let total = widths.iter().sum::<usize>() + 3 * widths.len().saturating_sub(1);
        lines.push(style.dim(&format!("{indent}{}", "─".repeat(total))));
        for row in &self.rows {
            lines.push(line(&|column| row.get(column).cloned().unwrap_or_default()));
        }
        lines
    }
}

/// Columns of a terminal, for text without wide characters.
fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&["queue", "messages#", "source"]);
        table.row(["major".into(), "39".into(), "config".into()]);
        table.row(["ä".into(), "1,707".into(), String::new()]);
        assert_eq!(
            table.lines(1, Style::plain()),
            [
                " queue   messages   source",
                " ─────────────────────────",
                " major         39   config",
                " ä          1,707",
            ]
        );
    }
}
