//! The figures of what is done to plugins while messages go through them: a deploy, a version in the
//! shadow, a tap, and a neighbour that runs into its limits.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::{Result, bail};
use bytes::Bytes;
use ring::digest;
use waypost_client::wire::control::{PluginDeploy, Tap};
use waypost_client::{Client, Message, PublisherOptions};

use super::compare::Bench;
use super::load;
use super::outcome::Outcome;
use super::plan::{Durability, Mode, Plan};
use super::queues::{Beside, block};
use super::suite::{Figure, Mark, NOOP};
use super::target::{Plugin, Setup, Target};

/// Between two deploys.
const DEPLOY_EVERY: Duration = Duration::from_millis(50);
/// Fewer in a run, and nothing was measured.
const DEPLOYS_MIN: u64 = 5;
/// Of a million calls, those that a shadow sees.
const SHADOWED_PPM: u32 = 10_000;
/// Between two messages for the hostile plugin, each of which it keeps until its deadline.
const HOSTILE_EVERY: Duration = Duration::from_millis(20);

/// A queue in memory behind a slot whose code comes over the network, so that no disk is measured.
fn plan(length: Duration, rate: Option<f64>) -> Plan {
    Plan {
        mode: Mode::Queue,
        durability: Durability::Memory,
        rate,
        window: if rate.is_some() { 65_536 } else { 4096 },
        lag: if rate.is_some() { 0 } else { 16_384 },
        ..Plan::live(128, length)
    }
}

fn setup(bench: &Bench, more: &str) -> Setup {
    Setup {
        through: vec![Plugin {
            source: "deployed = true\nrole = \"filter\"".to_owned(),
            settings: String::new(),
        }],
        threads: bench.threads,
        more: more.to_owned(),
    }
}

/// The filter that lets everything pass, in two versions: a custom section tells them apart.
fn version(number: u8) -> (String, Bytes) {
    let mut component = NOOP.to_vec();
    component.extend([0, 3, 1, b'v', number]);
    let digest = digest::digest(&digest::SHA256, &component);
    let digest = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    (digest, component.into())
}

async fn deploy(client: &Client, number: u8) -> Result<()> {
    let (digest, component) = version(number);
    client.plugins().upload(digest.as_str(), component).await?;
    client.plugins().deploy(of(digest)).await?;
    Ok(())
}

fn of(digest: String) -> PluginDeploy {
    PluginDeploy {
        plugin: "p0".to_owned(),
        digest,
        ..PluginDeploy::default()
    }
}

/// A node whose slot has its first version.
fn start(dir: &std::path::Path, plan: &Plan, setup: &Setup) -> Result<Target> {
    let target = Target::node(dir, plan, setup)?;
    block(target.connect(), async |client| deploy(&client, 0).await)?;
    Ok(target)
}

/// How long a deploy holds up a confirm.
pub fn deploys(bench: &Bench, length: Duration) -> Result<Vec<Figure>> {
    let plan = plan(length, Some(100_000.0));
    let setup = setup(bench, "");
    let (mut beyond, mut with, mut without) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        let run = |is_beside: bool| -> Result<Outcome> {
            let dir = bench.temporary()?;
            let target = start(dir.path(), &plan, &setup)?;
            let worker = is_beside
                .then(|| {
                    Beside::start(target.connect(), async move |client, stop| {
                        let mut count = 0u64;
                        while !stop.load(Relaxed) {
                            count += 1;
                            deploy(&client, (count % 2) as u8).await?;
                            tokio::time::sleep(DEPLOY_EVERY).await;
                        }
                        match count < DEPLOYS_MIN {
                            true => bail!("only {count} deploys in a run"),
                            false => Ok(()),
                        }
                    })
                })
                .transpose()?;
            let outcome = load::run(&plan, &target)?;
            worker.map_or(Ok(()), Beside::stop)?;
            Ok(outcome)
        };
        let (alone, beside) = (run(false)?, run(true)?);
        beyond.push((beside.confirm.max_us - alone.confirm.max_us) / 1e3);
        with.push(beside.confirm.p99_us);
        without.push(alone.confirm.p99_us);
    }
    Ok(vec![
        Figure::value(
            "longest confirm at 100,000 msg/s beside deploys 50 ms apart, beyond that without",
            "ms",
            beyond,
            Mark::AtMost(5.0),
        ),
        Figure::ratio(
            "confirm p99 at 100,000 msg/s beside deploys 50 ms apart",
            "µs",
            with,
            ("without them", without),
            Mark::AtMost(2.0),
        ),
    ])
}

/// What looking costs those who are looked at.
pub fn watched(bench: &Bench, length: Duration) -> Result<Vec<Figure>> {
    let plan = plan(length, None);
    let setup = setup(bench, "");
    let (mut shadowed, mut tapped, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        let dir = bench.temporary()?;
        let target = start(dir.path(), &plan, &setup)?;
        plain.push(load::run(&plan, &target)?.rates.delivered);
        drop(target);

        let dir = bench.temporary()?;
        let target = start(dir.path(), &plan, &setup)?;
        let worker = Beside::start(target.connect(), async move |client, stop| {
            let tap = Tap {
                plugin: "p0".to_owned(),
                after: true,
                ..Tap::default()
            };
            let mut tapping = client.tap(tap).await?;
            let mut seen = 0u64;
            while !stop.load(Relaxed) {
                let next = tokio::time::timeout(Duration::from_millis(100), tapping.next());
                // It may be told to stop where nothing comes any more.
                let Ok(next) = next.await else { continue };
                let Some(tapped) = next? else { break };
                seen += tapped.messages.len() as u64;
            }
            match seen {
                0 => bail!("nothing came by the tap"),
                _ => Ok(()),
            }
        })?;
        tapped.push(load::run(&plan, &target)?.rates.delivered);
        worker.stop()?;
        drop(target);

        let dir = bench.temporary()?;
        let target = start(dir.path(), &plan, &setup)?;
        block(target.connect(), async |client| {
            let (digest, component) = version(1);
            client.plugins().upload(digest.as_str(), component).await?;
            client.plugins().shadow(of(digest), SHADOWED_PPM).await?;
            Ok(())
        })?;
        shadowed.push(load::run(&plan, &target)?.rates.delivered);
    }
    let ratio = |name: &str, rates| {
        let other = ("without it", plain.clone());
        Figure::ratio(name, "msg/s", rates, other, Mark::AtLeast(0.9))
    };
    Ok(vec![
        ratio("through a plugin beside a tap on its calls", tapped),
        ratio(
            "through a plugin with a shadow on one call in a hundred",
            shadowed,
        ),
    ])
}

/// What the users of a good plugin feel of one beside it that runs into its deadline all the time.
pub fn hostile(bench: &Bench, length: Duration) -> Result<Vec<Figure>> {
    let plan = plan(length, Some(10_000.0));
    let more = "\n[[queue]]\nname = \"bad\"\n\
                [[plugin]]\nname = \"bad\"\nbuiltin = \"jq\"\nrole = \"filter\"\n\
                grants = [\"clock\"]\nbreaker = { failures = 1000000 }\n\
                settings = { program = \"def f: f; f\" }\n\
                [[route]]\nname = \"bad\"\nfrom = \"bad/#\"\nthrough = [\"bad\"]\n\
                to = [\"queue:bad\"]\n";
    let setup = setup(bench, more);
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        for (is_beside, latencies) in [(false, &mut without), (true, &mut with)] {
            let dir = bench.temporary()?;
            let target = start(dir.path(), &plan, &setup)?;
            let worker = is_beside
                .then(|| {
                    Beside::start(target.connect(), async move |client, stop| {
                        let publisher = client.publisher(PublisherOptions::default()).await?;
                        while !stop.load(Relaxed) {
                            drop(publisher.send(&Message::new("bad/x", "1")).await?);
                            tokio::time::sleep(HOSTILE_EVERY).await;
                        }
                        let failures = client.plugins().info("bad").await?.version_failures;
                        match failures {
                            0 => bail!("the hostile plugin did not fail"),
                            _ => Ok(()),
                        }
                    })
                })
                .transpose()?;
            latencies.push(load::run(&plan, &target)?.confirm.p99_us);
            worker.map_or(Ok(()), Beside::stop)?;
        }
    }
    Ok(vec![Figure::ratio(
        "confirm p99 at 10,000 msg/s beside a plugin that always runs into its deadline",
        "µs",
        with,
        ("without it", without),
        Mark::AtMost(2.0),
    )])
}
