//! Plugins and routes of a node: [`Client::plugins`] and [`Client::routes`].
//!
//! As for all management, a request is never sent again by itself. A deploy is two requests: the
//! component, which the node keeps under its digest, and then the version that runs it. Each can be
//! repeated: a component that is there is not sent again, a version that runs already is not
//! replaced.

use bytes::Bytes;
use waypost_wire::control::{
    self, LogLine, Manage, ManageRequest, Managed, ManagedResponse, PluginDeploy, PluginDeployed,
    PluginDetail, PluginDiff, PluginListed, PluginLogs, PluginName, PluginPause, PluginRollback,
    PluginShadow, PluginUpload, RouteAdd, RouteList, RouteListed, RouteName, RouteState,
};
use waypost_wire::{CHUNK_BYTES_MAX, FrameType};

use crate::client::Client;
use crate::error::Error;
use crate::manage::other_answer;
use crate::session::Stream;
use crate::stream;

/// Takes the alternative out of an answer, or names the one that was expected.
macro_rules! expect {
    ($response:expr, $kind:ident) => {
        match $response {
            ManagedResponse::$kind(answer) => Ok(answer),
            other => Err(other_answer(stringify!($kind), &other)),
        }
    };
}

/// The plugins of a node. Needs the right `plugins`; to look at them, `read`.
#[derive(Clone, Copy)]
pub struct Plugins<'a>(&'a Client);

/// The routes of a node. Needs the right `routes`; to look at them, `read`.
#[derive(Clone, Copy)]
pub struct Routes<'a>(&'a Client);

impl std::fmt::Debug for Plugins<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugins").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Routes<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Routes").finish_non_exhaustive()
    }
}

impl Client {
    /// The node's plugins.
    pub fn plugins(&self) -> Plugins<'_> {
        Plugins(self)
    }

    /// The node's routes.
    pub fn routes(&self) -> Routes<'_> {
        Routes(self)
    }
}

impl Plugins<'_> {
    /// All slots and what they did.
    pub async fn list(self) -> Result<PluginListed, Error> {
        let request = ManageRequest::PluginList(control::PluginList {});
        expect!(self.0.manage(request).await?, PluginList)
    }

    /// One slot: versions, settings, limits, times, memory, last failures.
    pub async fn info(self, plugin: impl Into<String>) -> Result<PluginDetail, Error> {
        let plugin = plugin.into();
        let request = ManageRequest::PluginInfo(PluginName { plugin });
        expect!(self.0.manage(request).await?, PluginInfo).map(|detail| *detail)
    }

    /// Brings a component to the node, which keeps it under `digest` (SHA-256 in hexadecimal
    /// digits) and checks that it is that. Gives the bytes that were sent: 0 where it was there.
    /// One that no slot names is kept for a while.
    pub async fn upload(self, digest: impl Into<String>, component: Bytes) -> Result<u64, Error> {
        let session = self.0.inner.session().await.map_err(Error::not_sent)?;
        let request = PluginUpload {
            digest: digest.into(),
            bytes: component.len() as u64,
        };
        let first = Manage {
            request: Some(ManageRequest::PluginUpload(request)),
        };
        let first = control::bytes_of(FrameType::Manage, &first);
        let Stream {
            mut send,
            mut reader,
            guard: _guard,
        } = session.open(first).await?;
        let sending = async {
            let mut rest = component;
            while !rest.is_empty() {
                let chunk = rest.split_to(rest.len().min(CHUNK_BYTES_MAX));
                let mut head = bytes::BytesMut::new();
                waypost_wire::frame::put_head(&mut head, FrameType::Chunk, chunk.len());
                // The node stops reading when it knows enough; its answer says what.
                if send.write_chunk(head.freeze()).await.is_err()
                    || send.write_chunk(chunk).await.is_err()
                {
                    return;
                }
            }
            stream::finish(&mut send);
        };
        let answer = reader.expect(FrameType::Managed, "MANAGED or ERROR");
        tokio::pin!(sending, answer);
        let mut is_sent = false;
        let frame = loop {
            tokio::select! {
                biased;
                frame = &mut answer => break frame?,
                () = &mut sending, if !is_sent => is_sent = true,
            }
        };
        let answer: Managed = control::parse(&frame)?;
        let response = answer.response;
        let response = response.ok_or_else(|| frame.malformed("has no answer"))?;
        expect!(response, Done).map(|done| done.count)
    }

    /// Makes a component that was uploaded the active version of a slot, without a message lost,
    /// doubled or out of order. Returns when new messages meet it. If it cannot be run, the old
    /// version runs on.
    pub async fn deploy(self, deploy: PluginDeploy) -> Result<PluginDeployed, Error> {
        let request = ManageRequest::PluginDeploy(deploy);
        expect!(self.0.manage(request).await?, PluginDeploy)
    }

    /// Runs a component that was uploaded beside the version that serves, on sampled calls (of a
    /// million; 0: all), without effects. [`Plugins::diff`] tells what it would do.
    pub async fn shadow(self, deploy: PluginDeploy, sample_ppm: u32) -> Result<(), Error> {
        let request = ManageRequest::PluginShadow(PluginShadow {
            deploy: Some(deploy),
            sample_ppm,
        });
        expect!(self.0.manage(request).await?, Done).map(drop)
    }

    /// What a slot's shadow and the version that serves said of the same messages.
    pub async fn diff(self, plugin: impl Into<String>) -> Result<PluginDiff, Error> {
        let plugin = plugin.into();
        let request = ManageRequest::PluginDiff(PluginName { plugin });
        expect!(self.0.manage(request).await?, PluginDiff).map(|diff| *diff)
    }

    /// Makes a slot's shadow the version that serves, as [`Plugins::deploy`] does.
    pub async fn promote(self, plugin: impl Into<String>) -> Result<PluginDeployed, Error> {
        let plugin = plugin.into();
        let request = ManageRequest::PluginPromote(PluginName { plugin });
        expect!(self.0.manage(request).await?, PluginDeploy)
    }

    /// Ends a slot's shadow, and forgets what it found.
    pub async fn discard(self, plugin: impl Into<String>) -> Result<(), Error> {
        let plugin = plugin.into();
        let request = ManageRequest::PluginDiscard(PluginName { plugin });
        expect!(self.0.manage(request).await?, Done).map(drop)
    }

    /// Goes back to the version before, or to the one with this number.
    pub async fn rollback(
        self,
        plugin: impl Into<String>,
        to: Option<u64>,
    ) -> Result<PluginDeployed, Error> {
        let request = ManageRequest::PluginRollback(PluginRollback {
            plugin: plugin.into(),
            to: to.unwrap_or(0),
        });
        expect!(self.0.manage(request).await?, PluginDeploy)
    }

    /// Takes a slot out of use: its messages meet `on_error`, or, with `hold`, are refused so that
    /// their publishers try again.
    pub async fn pause(self, plugin: impl Into<String>, hold: bool) -> Result<(), Error> {
        let plugin = plugin.into();
        let request = ManageRequest::PluginPause(PluginPause { plugin, hold });
        expect!(self.0.manage(request).await?, Done).map(drop)
    }

    /// Takes a slot into use again.
    pub async fn resume(self, plugin: impl Into<String>) -> Result<(), Error> {
        let plugin = plugin.into();
        let request = ManageRequest::PluginResume(PluginName { plugin });
        expect!(self.0.manage(request).await?, Done).map(drop)
    }

    /// Removes a slot that no route uses, with all its versions.
    pub async fn remove(self, plugin: impl Into<String>) -> Result<(), Error> {
        let plugin = plugin.into();
        let request = ManageRequest::PluginRemove(PluginName { plugin });
        expect!(self.0.manage(request).await?, Done).map(drop)
    }

    /// The last lines that a slot logged, oldest first; 0: all that the node keeps.
    pub async fn logs(self, plugin: impl Into<String>, lines: u32) -> Result<Vec<LogLine>, Error> {
        let request = ManageRequest::PluginLogs(PluginLogs {
            plugin: plugin.into(),
            lines,
            after: 0,
            follow: false,
        });
        let logged = expect!(self.0.manage(request).await?, PluginLogs)?;
        Ok(logged.lines)
    }

    /// The same, and then what comes.
    pub async fn follow(self, plugin: impl Into<String>, lines: u32) -> Result<Following, Error> {
        let session = self.0.inner.session().await.map_err(Error::not_sent)?;
        let request = ManageRequest::PluginLogs(PluginLogs {
            plugin: plugin.into(),
            lines,
            after: 0,
            follow: true,
        });
        let first = Manage {
            request: Some(request),
        };
        let first = control::bytes_of(FrameType::Manage, &first);
        let mut stream = session.open(first).await?;
        stream::finish(&mut stream.send);
        Ok(Following(stream))
    }
}

/// The lines of a slot as they come. Ends when it is dropped.
pub struct Following(Stream);

impl std::fmt::Debug for Following {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Following").finish_non_exhaustive()
    }
}

impl Following {
    /// The next lines, which may be none at the beginning; `None` when the slot was removed or the
    /// node stops. A gap in their numbers is lines that came faster than they were sent.
    pub async fn next(&mut self) -> Result<Option<Vec<LogLine>>, Error> {
        let Some(frame) = self.0.reader.next().await? else {
            return Ok(None);
        };
        if frame.kind != FrameType::Managed {
            return Err(frame.unexpected("MANAGED or ERROR").into());
        }
        let answer: Managed = control::parse(&frame)?;
        let response = answer.response;
        let response = response.ok_or_else(|| frame.malformed("has no answer"))?;
        let logged = expect!(response, PluginLogs)?;
        Ok(Some(logged.lines))
    }
}

impl Routes<'_> {
    /// All routes, in the order in which they run.
    pub async fn list(self) -> Result<RouteListed, Error> {
        let request = ManageRequest::RouteList(RouteList {});
        expect!(self.0.manage(request).await?, RouteList)
    }

    /// Adds a route, before another one where one is named.
    pub async fn add(self, route: RouteState, before: Option<&str>) -> Result<(), Error> {
        let request = ManageRequest::RouteAdd(RouteAdd {
            route: Some(route),
            before: before.unwrap_or_default().to_owned(),
        });
        expect!(self.0.manage(request).await?, Done).map(drop)
    }

    /// Removes a route that was added.
    pub async fn remove(self, route: impl Into<String>) -> Result<(), Error> {
        let route = route.into();
        let request = ManageRequest::RouteRemove(RouteName { route });
        expect!(self.0.manage(request).await?, Done).map(drop)
    }
}
