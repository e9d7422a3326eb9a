//! `waypost route`: where messages go, changed on a running node.

use clap::Subcommand;
use serde_json::{Value, json};
use waypost_client::wire::control::RouteState;

use crate::connect::ConnectArgs;
use crate::output::Output;
use crate::table::Table;

/// Add, list and remove routes
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  waypost route add loud --from 'noise/#' --through loud --to queue:alerts
  waypost route ls
  waypost route rm loud")]
pub struct RouteArgs {
    #[command(subcommand)]
    command: RouteCommand,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Subcommand)]
enum RouteCommand {
    Add(AddArgs),
    /// List all routes, in the order in which they run
    #[command(after_help = "Example: waypost route ls --json")]
    Ls,
    Rm(RmArgs),
}

/// Add a route; the node keeps it until `route rm`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  waypost route add all --from 'plant/#' --to queue:history
  waypost route add strong --from 'quakes/+/raw' --through strong,alert --to queue:alerts --final
  waypost route add choose --from 'in/#' --through chooser --to queue:a,queue:b --before all

Every route whose filter matches takes a message, in order, until one that is --final. Routes of
the configuration keep their order; a new one runs after all that are there, or --before one of
them. Those that queues bring with them come last.")]
struct AddArgs {
    /// Its name: 1 to 128 letters, digits, '.', '_' or '-'
    name: String,
    /// Which topics: a filter
    #[arg(long, value_name = "FILTER")]
    from: String,
    /// Plugins, in order
    #[arg(long, value_name = "PLUGIN,…", value_delimiter = ',')]
    through: Vec<String>,
    /// Destinations: queue:NAME, topic:NAME or drop; a route plugin chooses among them
    #[arg(
        long,
        value_name = "DESTINATION,…",
        value_delimiter = ',',
        required = true
    )]
    to: Vec<String>,
    /// Skip later routes for what it takes
    #[arg(long = "final")]
    is_final: bool,
    /// The route that it runs before
    #[arg(long, value_name = "ROUTE")]
    before: Option<String>,
}

/// Remove a route; one that the configuration names is removed there
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: waypost route rm loud")]
struct RmArgs {
    /// The route
    name: String,
}

/// Runs the command.
pub fn run(args: RouteArgs, output: Output) -> anyhow::Result<()> {
    super::block_on(async {
        let client = args.connect.connect_once().await?;
        super::with(client, async |client| {
            let routes = client.routes();
            match args.command {
                RouteCommand::Ls => list(&routes.list().await?.routes, output),
                RouteCommand::Add(add) => {
                    let name = add.name.clone();
                    let route = RouteState {
                        name: add.name,
                        from: add.from,
                        through: add.through,
                        to: add.to,
                        is_final: add.is_final,
                        source: String::new(),
                    };
                    routes.add(route, add.before.as_deref()).await?;
                    said(&name, "added", output)
                }
                RouteCommand::Rm(rm) => {
                    routes.remove(&rm.name).await?;
                    said(&rm.name, "removed", output)
                }
            }
        })
        .await
    })
}

fn said(name: &str, what: &str, output: Output) -> anyhow::Result<()> {
    match output.is_json() {
        true => output.json(&json!({ "route": name, "status": what })),
        false => output.line(format!("{} {what}", output.style().bold(name))),
    }
}

fn list(routes: &[RouteState], output: Output) -> anyhow::Result<()> {
    if output.is_json() {
        let route = |route: &RouteState| -> Value {
            json!({
                "name": route.name,
                "from": route.from,
                "through": route.through,
                "to": route.to,
                "final": route.is_final,
                "source": route.source,
            })
        };
        return output.json(&routes.iter().map(route).collect::<Vec<_>>());
    }
    let mut table = Table::new(&["route", "from", "through", "to", "", "source"]);
    for route in routes {
        table.row([
            route.name.clone(),
            route.from.clone(),
            route.through.join(", "),
            route.to.join(", "),
            if route.is_final { "final" } else { "" }.to_owned(),
            route.source.clone(),
        ]);
    }
    output.lines(table.lines(0, output.style()))
}
