//! `waypost sub`: what is published from now on.

use serde_json::json;
use waypost_client::{Client, Filter, SubscriberEvent};

use crate::connect::ConnectArgs;
use crate::messages;
use crate::output::{Output, note};
use crate::units::{count, counted};

/// Watch topics live: what is published from now on, as long as you keep up
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  waypost sub plant/press-4/temperature
  waypost sub 'plant/+/temperature' 'plant/+/alarm'     + is one level
  waypost sub 'plant/#' --json | jq .payload            # is all levels from there on
  waypost sub '#' --count 1                             end after one message

Nothing is kept for a live subscriber: one that reads too slowly loses messages, and is told
how many; with --strict it ends there. To keep messages, use a queue.")]
pub struct SubArgs {
    /// Topics, in which + stands for one level and # for the rest
    #[arg(required = true, value_name = "FILTER", value_parser = parse_filter)]
    filters: Vec<Filter>,
    /// End after so many messages
    #[arg(short = 'n', long, value_name = "N")]
    count: Option<u64>,
    /// Write payloads only, as they are, each with a line feed
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    /// End with an error where messages would be lost
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

fn parse_filter(text: &str) -> Result<Filter, String> {
    Filter::new(text).map_err(|error| format!("the filter {error}"))
}

/// Runs the command.
pub fn run(args: SubArgs, output: Output) -> anyhow::Result<()> {
    super::block_on(async {
        let mut watch = Watch {
            left: args.count,
            raw: args.raw,
            output,
            seen: 0,
            lost: 0,
        };
        let client = args.connect.connect_for_long().await?;
        super::with(client, async |client| {
            tokio::select! {
                result = watch.watch(client, &args) => result,
                result = super::interrupted() => result,
            }
        })
        .await?;
        if !output.is_json() && (watch.left.is_none() || watch.lost > 0) {
            note(format!(
                "{}, {} lost",
                counted(watch.seen, "message"),
                count(watch.lost)
            ));
        }
        Ok(())
    })
}

struct Watch {
    /// Messages still to be shown; `None` is without end.
    left: Option<u64>,
    raw: bool,
    output: Output,
    seen: u64,
    lost: u64,
}

impl Watch {
    async fn watch(&mut self, client: &Client, args: &SubArgs) -> anyhow::Result<()> {
        let mut subscriber = match args.strict {
            true => {
                client
                    .strict_subscriber(&args.filters, "waypost sub")
                    .await?
            }
            false => client.subscriber(&args.filters, "waypost sub").await?,
        };
        if !self.output.is_json() && !self.raw {
            let filters: Vec<&str> = args.filters.iter().map(Filter::as_str).collect();
            note(format!("subscribed to {}; Ctrl-C ends", filters.join(", ")));
        }
        while self.left != Some(0) {
            let Some(event) = subscriber.next().await? else {
                break;
            };
            self.on_event(event)?;
        }
        Ok(())
    }

    fn on_event(&mut self, event: SubscriberEvent) -> anyhow::Result<()> {
        match event {
            SubscriberEvent::Batch(live) => {
                for body in live.slab.iter() {
                    if self.left == Some(0) {
                        break;
                    }
                    let record = waypost_client::RecordRef::parse(body)?;
                    self.show(&record, live.receive_time_ms)?;
                    self.seen += 1;
                    self.left = self.left.map(|left| left - 1);
                }
            }
            SubscriberEvent::Lost(lost) => {
                self.lost += lost;
                match self.output.is_json() {
                    true => self.output.json(&json!({"lost": lost}))?,
                    false => note(format!(
                        "-- {} lost here: they came faster than they were read",
                        counted(lost, "message")
                    )),
                }
            }
            SubscriberEvent::Reconnected => match self.output.is_json() {
                true => self.output.json(&json!({"reconnected": true}))?,
                false => note("-- reconnected: messages may be missing here"),
            },
            _ => {}
        }
        Ok(())
    }

    fn show(
        &self,
        record: &waypost_client::RecordRef<'_>,
        receive_time_ms: u64,
    ) -> anyhow::Result<()> {
        if self.raw {
            return self.output.bytes(record.payload());
        }
        if self.output.is_json() {
            let about = [("receive_time_ms", json!(receive_time_ms))];
            return self.output.json(&messages::to_json(record, &about));
        }
        let style = self.output.style();
        self.output.line(messages::to_line(record, "", style))
    }
}
