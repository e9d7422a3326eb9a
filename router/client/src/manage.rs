//! Management: one request, one stream, one answer.
//!
//! A request is never sent again by itself. Where [`Error::has_no_side_effects`] says `false`, the
//! node may have done it.

use waypost_wire::control::{
    self, BackedUp, Backup, Browse, Done, Explain, Explained, GroupAdd, GroupName, GroupSeek,
    Manage, ManageRequest, Managed, ManagedResponse, NodeInfo, NodeState, Peeked, PluginList,
    PluginListed, QueueAdd, QueueList, QueueListed, QueueName, QueuePeek, QueueSettings,
    QueueState, Redrive, Remove, Replay, Select,
};
use waypost_wire::{FrameType, Message};

use crate::client::Client;
use crate::error::Error;
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

impl Client {
    /// Any request; the functions below are shorter.
    pub async fn manage(&self, request: ManageRequest) -> Result<ManagedResponse, Error> {
        let session = self.inner.session().await.map_err(Error::not_sent)?;
        let request = Manage {
            request: Some(request),
        };
        let first = control::bytes_of(FrameType::Manage, &request);
        let limit = session.welcome.frame_bytes_max as usize;
        if limit > 0 && first.len() > limit {
            return Err(Error::TooLarge {
                what: "request",
                length: first.len(),
                limit,
            });
        }
        let Stream {
            mut send,
            mut reader,
            guard: _guard,
        } = session.open(first).await?;
        stream::finish(&mut send);
        let frame = reader
            .expect(FrameType::Managed, "MANAGED or ERROR")
            .await?;
        let answer: Managed = control::parse(&frame)?;
        Ok(answer
            .response
            .ok_or_else(|| frame.malformed("has no answer that this version knows"))?)
    }

    /// All queues.
    pub async fn queue_list(&self) -> Result<QueueListed, Error> {
        let request = ManageRequest::QueueList(QueueList {});
        expect!(self.manage(request).await?, QueueList)
    }

    /// Makes a queue; [`waypost_wire::Code::Exists`] where it is there with other settings.
    pub async fn queue_add(
        &self,
        queue: impl Into<String>,
        settings: QueueSettings,
    ) -> Result<(), Error> {
        let request = ManageRequest::QueueAdd(QueueAdd {
            queue: queue.into(),
            settings: Some(settings),
        });
        expect!(self.manage(request).await?, Done).map(drop)
    }

    /// A queue and its groups.
    pub async fn queue_info(&self, queue: impl Into<String>) -> Result<QueueState, Error> {
        let queue = queue.into();
        let request = ManageRequest::QueueInfo(QueueName { queue });
        expect!(self.manage(request).await?, QueueInfo)
    }

    /// Looks at up to `count` messages from an offset on, without taking them.
    pub async fn queue_peek(
        &self,
        queue: impl Into<String>,
        from_offset: u64,
        count: u32,
    ) -> Result<Peeked, Error> {
        let request = ManageRequest::QueuePeek(QueuePeek {
            queue: queue.into(),
            from_offset,
            count,
        });
        expect!(self.manage(request).await?, QueuePeek)
    }

    /// Deletes all messages of a queue; gives how many.
    pub async fn queue_purge(&self, queue: impl Into<String>) -> Result<u64, Error> {
        let queue = queue.into();
        let request = ManageRequest::QueuePurge(QueueName { queue });
        expect!(self.manage(request).await?, Done).map(|done| done.count)
    }

    /// Removes a queue with its messages and groups; gives how many messages.
    pub async fn queue_remove(&self, queue: impl Into<String>) -> Result<u64, Error> {
        let queue = queue.into();
        let request = ManageRequest::QueueRemove(QueueName { queue });
        expect!(self.manage(request).await?, Done).map(|done| done.count)
    }

    /// Gives a queue that was made over the network other settings: all of them, so take those of
    /// [`Client::queue_info`] and change some.
    pub async fn queue_set(
        &self,
        queue: impl Into<String>,
        settings: QueueSettings,
    ) -> Result<(), Error> {
        let request = ManageRequest::QueueSet(QueueAdd {
            queue: queue.into(),
            settings: Some(settings),
        });
        expect!(self.manage(request).await?, Done).map(drop)
    }

    /// Looks at up to `count` selected messages without taking them. The node looks at a part of
    /// the queue for each call: go on from `next_offset` until it does not rise.
    pub async fn browse(
        &self,
        queue: impl Into<String>,
        select: Select,
        count: u32,
    ) -> Result<Peeked, Error> {
        let request = ManageRequest::Browse(Browse {
            queue: queue.into(),
            select: Some(select),
            count,
        });
        expect!(self.manage(request).await?, QueuePeek)
    }

    /// Publishes copies of selected messages into a queue. A part of them for each call: go on from
    /// `next_offset` until it is 0.
    pub async fn replay(
        &self,
        queue: impl Into<String>,
        select: Select,
        to_queue: impl Into<String>,
    ) -> Result<Done, Error> {
        let request = ManageRequest::Replay(Replay {
            queue: queue.into(),
            select: Some(select),
            to_queue: to_queue.into(),
            ..Replay::default()
        });
        expect!(self.manage(request).await?, Done)
    }

    /// Publishes copies of selected messages through the node's routes: under `topic`, or each under
    /// its own. What was not taken is counted. A part of them for each call, as for
    /// [`Client::replay`]; a call that finds a queue full ends before that batch, or, where it is
    /// the first, with the error.
    pub async fn replay_to_topic(
        &self,
        queue: impl Into<String>,
        select: Select,
        topic: Option<&str>,
    ) -> Result<Done, Error> {
        let request = ManageRequest::Replay(Replay {
            queue: queue.into(),
            select: Some(select),
            to_topic: true,
            topic: topic.unwrap_or_default().to_owned(),
            ..Replay::default()
        });
        expect!(self.manage(request).await?, Done)
    }

    /// Moves selected dead letters back to the queues that they came from, or into `to_queue`;
    /// `message`, with one of them selected, takes its place. As for [`Client::replay`], a part of
    /// them for each call.
    pub async fn redrive(
        &self,
        queue: impl Into<String>,
        select: Select,
        to_queue: Option<&str>,
        message: Option<&Message>,
    ) -> Result<Done, Error> {
        let request = ManageRequest::Redrive(Redrive {
            queue: queue.into(),
            select: Some(select),
            to_queue: to_queue.unwrap_or_default().to_owned(),
            record: message.map(Message::to_body).unwrap_or_default(),
        });
        expect!(self.manage(request).await?, Done)
    }

    /// Removes selected messages, whoever may still want them. A part of them for each call.
    pub async fn remove_messages(
        &self,
        queue: impl Into<String>,
        select: Select,
    ) -> Result<Done, Error> {
        let request = ManageRequest::Remove(Remove {
            queue: queue.into(),
            select: Some(select),
        });
        expect!(self.manage(request).await?, Done)
    }

    /// Makes a group; [`waypost_wire::Code::Exists`] where it is there, made otherwise.
    pub async fn group_add(&self, group: GroupAdd) -> Result<(), Error> {
        let request = ManageRequest::GroupAdd(group);
        expect!(self.manage(request).await?, Done).map(drop)
    }

    /// Moves a group; gives the first offset that it gets now. What its consumers hold is taken
    /// back.
    pub async fn group_seek(&self, seek: GroupSeek) -> Result<u64, Error> {
        let request = ManageRequest::GroupSeek(seek);
        expect!(self.manage(request).await?, Done).map(|done| done.count)
    }

    /// Removes a group and closes its consumers; gives how many messages it had not acked.
    pub async fn group_remove(
        &self,
        queue: impl Into<String>,
        group: impl Into<String>,
    ) -> Result<u64, Error> {
        let (queue, group) = (queue.into(), group.into());
        let request = ManageRequest::GroupRemove(GroupName { queue, group });
        expect!(self.manage(request).await?, Done).map(|done| done.count)
    }

    /// All plugins and what they did.
    pub async fn plugin_list(&self) -> Result<PluginListed, Error> {
        let request = ManageRequest::PluginList(PluginList {});
        expect!(self.manage(request).await?, PluginList)
    }

    /// The node.
    pub async fn node_info(&self) -> Result<NodeState, Error> {
        let request = ManageRequest::NodeInfo(NodeInfo {});
        expect!(self.manage(request).await?, NodeInfo)
    }

    /// Makes a backup of all that was confirmed before, in a directory of this name on the node's
    /// disk. Returns when it is complete and durable.
    pub async fn backup(&self, name: impl Into<String>) -> Result<BackedUp, Error> {
        let request = ManageRequest::Backup(Backup { name: name.into() });
        expect!(self.manage(request).await?, Backup)
    }

    /// What the node's routes and plugins would do with a message, without doing it.
    pub async fn explain(&self, message: &Message) -> Result<Explained, Error> {
        let request = ManageRequest::Explain(Explain {
            record: message.to_body(),
        });
        expect!(self.manage(request).await?, Explain)
    }
}

pub(crate) fn other_answer(expected: &'static str, other: &ManagedResponse) -> Error {
    let got = match other {
        ManagedResponse::Done(_) => "Done",
        ManagedResponse::QueueList(_) => "QueueList",
        ManagedResponse::QueueInfo(_) => "QueueInfo",
        ManagedResponse::QueuePeek(_) => "QueuePeek",
        ManagedResponse::PluginList(_) => "PluginList",
        ManagedResponse::NodeInfo(_) => "NodeInfo",
        ManagedResponse::Explain(_) => "Explain",
        ManagedResponse::Backup(_) => "Backup",
        ManagedResponse::PluginInfo(_) => "PluginInfo",
        ManagedResponse::PluginDeploy(_) => "PluginDeploy",
        ManagedResponse::PluginLogs(_) => "PluginLogs",
        ManagedResponse::RouteList(_) => "RouteList",
        ManagedResponse::Tap(_) => "Tap",
        ManagedResponse::PluginDiff(_) => "PluginDiff",
    };
    Error::Protocol(waypost_wire::WireError::Malformed {
        frame: FrameType::Managed,
        offset: 0,
        what: format!("answers {got}, expected {expected}"),
    })
}
