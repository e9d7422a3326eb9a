//! `waypost plugin logs`: what a plugin logged, and logs.

use serde_json::json;
use waypost_client::wire::control::LogLine;

use crate::commands;
use crate::connect::ConnectArgs;
use crate::output::{Output, note};
use crate::times::clock;

/// Show the last lines that a plugin logged
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  waypost plugin logs loud
  waypost plugin logs loud -n 5 -f
  waypost plugin logs loud --json | jq .text

The node keeps the last 1,000 lines of a plugin, 256 KiB at most, since its start. With -f the
command ends when the plugin is removed, the node stops, or by Ctrl-C.")]
pub struct LogsArgs {
    /// The slot
    name: String,
    /// How many lines at most
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100)]
    lines: u32,
    /// Go on with the lines that come
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Runs the command.
pub fn run(args: &LogsArgs, output: Output) -> anyhow::Result<()> {
    commands::block_on(async {
        let client = args.connect.connect_once().await?;
        commands::with(client, async |client| {
            let plugins = client.plugins();
            if !args.follow {
                return show(&plugins.logs(&args.name, args.lines).await?, &mut 0, output);
            }
            let mut following = plugins.follow(&args.name, args.lines).await?;
            let mut last = 0;
            loop {
                let next = tokio::select! {
                    next = following.next() => next?,
                    interrupted = commands::interrupted() => return interrupted,
                };
                match next {
                    Some(lines) => show(&lines, &mut last, output)?,
                    None => return Ok(()),
                }
            }
        })
        .await
    })
}

/// Shows lines, and says where some are missing after `last`.
fn show(lines: &[LogLine], last: &mut u64, output: Output) -> anyhow::Result<()> {
    let style = output.style();
    for line in lines {
        if *last > 0 && line.number > *last + 1 {
            note(format!("({} lines were left out)", line.number - *last - 1));
        }
        *last = line.number;
        if output.is_json() {
            output.json(&json!({
                "number": line.number,
                "time_ms": line.time_ms,
                "level": line.level,
                "text": line.text,
            }))?;
            continue;
        }
        let level = format!("{:<5}", line.level);
        let level = match line.level.as_str() {
            "error" | "warn" => style.red(&level),
            _ => style.dim(&level),
        };
        output.line(format!("{} {level} {}", clock(line.time_ms), line.text))?;
    }
    Ok(())
}
