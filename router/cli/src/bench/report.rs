//! Figures for people: a few lines, and always what was compared with what.

use anyhow::Result;

use super::compare::{Pair, median};
use super::outcome::{Latency, Outcome};
use super::suite::{Figure, Mark};
use crate::output::Output;
use crate::table::Table;

/// One run.
pub fn outcome(output: Output, title: &str, outcome: &Outcome) -> Result<()> {
    output.line(output.style().bold(title))?;
    let rates = &outcome.rates;
    output.line(format!(
        "  {} published, {} confirmed, {} delivered msg/s; {:.1} MB/s of payload",
        grouped(rates.published),
        grouped(rates.confirmed),
        grouped(rates.delivered),
        rates.delivered_megabytes
    ))?;
    let columns = ["latency, µs", "p50#", "p90#", "p99#", "p99.9#", "max#"];
    let mut table = Table::new(&columns);
    for (name, latency) in [
        ("confirm", &outcome.confirm),
        ("end to end", &outcome.end_to_end),
    ] {
        let [p50, p90, p99, p999, max] = percentiles(latency).map(|us| format!("{us:.0}"));
        table.row([name.to_owned(), p50, p90, p99, p999, max]);
    }
    output.lines(table.lines(2, output.style()))?;
    if let Some(server) = &outcome.server {
        output.line(format!(
            "  server: {:.2} cores, {:.1} MB resident ({:.1} at most), {:.2} bytes written to the \
             device for each encoded",
            server.cpus,
            server.rss_bytes as f64 / 1e6,
            server.rss_max_bytes as f64 / 1e6,
            server.written_per_encoded
        ))?;
    }
    let order = match outcome.reordered {
        0 => "in order".to_owned(),
        count => format!("{} out of order", grouped(count as f64)),
    };
    let messages = grouped(outcome.messages as f64);
    output.line(format!("  {messages} messages, all delivered, {order}"))
}

/// A node's runs over the floor's.
pub fn ratios(output: Output, pairs: &[Pair]) -> Result<()> {
    output.line(
        output
            .style()
            .bold("node / floor, for each pair and in the median"),
    )?;
    let mut table = Table::new(&["figure", "node#", "floor#", "ratios", "median#"]);
    type Value = fn(&Outcome) -> f64;
    let figures: [(&str, Value); 5] = [
        ("delivered, msg/s", |o| o.rates.delivered),
        ("confirm p50, µs", |o| o.confirm.p50_us),
        ("confirm p99, µs", |o| o.confirm.p99_us),
        ("end to end p50, µs", |o| o.end_to_end.p50_us),
        ("end to end p99, µs", |o| o.end_to_end.p99_us),
    ];
    for (name, value) in figures {
        let ratios: Vec<f64> = pairs
            .iter()
            .map(|pair| value(&pair.node) / value(&pair.floor))
            .collect();
        table.row([
            name.to_owned(),
            grouped(median(pairs.iter().map(|pair| value(&pair.node)))),
            grouped(median(pairs.iter().map(|pair| value(&pair.floor)))),
            list(&ratios),
            format!("{:.2}", median(ratios.iter().copied())),
        ]);
    }
    output.lines(table.lines(2, output.style()))
}

/// One figure of the suite, on a line or two.
pub fn figure(output: Output, figure: &Figure) -> Result<()> {
    let style = output.style();
    let mark = match figure.mark {
        Mark::AtLeast(mark) => format!("≥ {mark}"),
        Mark::AtMost(mark) => format!("≤ {mark}"),
    };
    let (verdict, value) = (
        match figure.met {
            true => style.green("met"),
            false => style.red("missed"),
        },
        match &figure.other {
            Some(_) => format!("{:.2}×", figure.figure),
            None => format!("{} {}", short(figure.figure), figure.unit),
        },
    );
    let name = &figure.name;
    output.line(format!("{value:>10}  {mark:>7}  {verdict:<6}  {name}"))?;
    let unit = figure.unit;
    let values = |values: &[f64]| {
        let values: Vec<String> = values.iter().map(|value| short(*value)).collect();
        values.join(", ")
    };
    let detail = match &figure.other {
        Some((what, other)) => {
            format!("{} {unit}; {what}: {}", values(&figure.node), values(other))
        }
        None => values(&figure.node),
    };
    output.line(style.dim(&format!("{:29}{detail}", "")))
}

fn percentiles(latency: &Latency) -> [f64; 5] {
    [
        latency.p50_us,
        latency.p90_us,
        latency.p99_us,
        latency.p999_us,
        latency.max_us,
    ]
}

fn list(values: &[f64]) -> String {
    let values: Vec<String> = values.iter().map(|value| format!("{value:.2}")).collect();
    values.join(" ")
}

fn short(value: f64) -> String {
    match value {
        value if value >= 1000.0 => grouped(value),
        value if value >= 100.0 => format!("{value:.0}"),
        value => format!("{value:.2}"),
    }
}

/// A whole number with its thousands apart.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn thousands() {
        assert_eq!(grouped(999.4), "999");
        assert_eq!(grouped(1_234_567.0), "1,234,567");
    }
}
