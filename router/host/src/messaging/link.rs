//! What guests of `wasi:messaging` may import: `types`, `producer`, and of `request-reply` what
//! does not wait.
//!
//! A call that holds more than it may ends here, as one that makes too many host calls does.

use wasmtime::component::{Linker, LinkerInstance, Resource, ResourceType};

use super::held::{Client, Message, RequestOptions, THINGS_MAX, Thing};
use super::{Error, versioned};
use crate::imports::{HostCallError, HostState};

type Instance<'a> = LinkerInstance<'a, HostState>;
type Answer = Result<Result<(), Error>, HostCallError>;

impl HostState {
    /// Puts a message where the guest's handle finds it.
    pub(crate) fn hold_message(
        &mut self,
        import: &'static str,
        message: Message,
    ) -> Result<Resource<Message>, HostCallError> {
        self.accountant.hold(0, message.bytes())?;
        self.hold(import, Thing::Message(Box::new(message)))
    }

    fn hold<T: 'static>(
        &mut self,
        import: &'static str,
        thing: Thing,
    ) -> Result<Resource<T>, HostCallError> {
        let limit = THINGS_MAX;
        let number = self.held.put(thing);
        number
            .map(Resource::new_own)
            .ok_or(HostCallError::TooManyHeld { limit, import })
    }

    fn message(
        &mut self,
        import: &'static str,
        handle: &Resource<Message>,
    ) -> Result<&mut Message, HostCallError> {
        match self.held.get(handle.rep()) {
            Some(Thing::Message(message)) => Ok(message),
            _ => Err(HostCallError::NotHeld { import }),
        }
    }

    /// What a call of an import finds in a message.
    fn look<T>(
        &mut self,
        import: &'static str,
        handle: &Resource<Message>,
        what: impl FnOnce(&Message) -> T,
    ) -> Result<(T,), HostCallError> {
        self.enter(import)?;
        Ok((what(self.message(import, handle)?),))
    }

    /// What a call of an import changes in a message.
    fn change(
        &mut self,
        import: &'static str,
        handle: &Resource<Message>,
        how: impl FnOnce(&mut Message),
    ) -> Result<(), HostCallError> {
        self.enter(import)?;
        let message = self.message(import, handle)?;
        let before = message.bytes();
        how(message);
        let after = message.bytes();
        self.accountant.hold(before, after)
    }

    fn take_message(
        &mut self,
        import: &'static str,
        handle: &Resource<Message>,
    ) -> Result<Message, HostCallError> {
        match self.let_go(handle.rep()) {
            Some(Thing::Message(message)) => Ok(*message),
            _ => Err(HostCallError::NotHeld { import }),
        }
    }

    /// The guest has dropped it, or given it away. Not counted as a host call: making it was.
    fn let_go(&mut self, number: u32) -> Option<Thing> {
        let thing = self.held.take(number);
        if let Some(Thing::Message(message)) = &thing {
            self.accountant.let_go(message.bytes());
        }
        thing
    }

    fn connect(&mut self) -> Result<Result<Resource<Client>, Error>, HostCallError> {
        let import = "wasi:messaging/types.client.connect";
        self.enter(import)?;
        let client = Client { is_connected: true };
        Ok(Ok(self.hold(import, Thing::Client(client))?))
    }

    fn client(
        &mut self,
        import: &'static str,
        handle: &Resource<Client>,
    ) -> Result<&mut Client, HostCallError> {
        match self.held.get(handle.rep()) {
            Some(Thing::Client(client)) => Ok(client),
            _ => Err(HostCallError::NotHeld { import }),
        }
    }

    fn disconnect(&mut self, client: &Resource<Client>) -> Answer {
        let import = "wasi:messaging/types.client.disconnect";
        self.enter(import)?;
        self.client(import, client)?.is_connected = false;
        Ok(Ok(()))
    }

    fn send(
        &mut self,
        client: &Resource<Client>,
        topic: Box<str>,
        message: &Resource<Message>,
    ) -> Answer {
        let import = "wasi:messaging/producer.send";
        self.enter(import)?;
        let message = self.take_message(import, message)?;
        if !self.client(import, client)?.is_connected {
            return Ok(Err(disconnected()));
        }
        Ok(self.publish_to(topic, message))
    }

    fn reply(&mut self, to: &Resource<Message>, message: &Resource<Message>) -> Answer {
        let import = "wasi:messaging/request-reply.reply";
        self.enter(import)?;
        let message = self.take_message(import, message)?;
        match self.message(import, to)?.reply_to.clone() {
            Some(topic) => Ok(self.publish_to(topic, message)),
            None => Ok(Err(Error::Other(
                "the message does not say where it wants a reply".into(),
            ))),
        }
    }

    fn request(
        &mut self,
        client: &Resource<Client>,
        options: Option<&Resource<RequestOptions>>,
    ) -> Result<Result<Vec<Resource<Message>>, Error>, HostCallError> {
        let import = "wasi:messaging/request-reply.request";
        self.enter(import)?;
        if let Some(options) = options {
            self.let_go(options.rep());
        }
        Ok(Err(match self.client(import, client)?.is_connected {
            true => Error::Other("request is not supported: a plugin's call never waits".into()),
            false => disconnected(),
        }))
    }

    /// The way of all that plugins publish; its cause is the one message of the call.
    fn publish_to(&mut self, topic: Box<str>, message: Message) -> Result<(), Error> {
        let message = message.into_outgoing(topic);
        self.take_published(0, message).map_err(Error::from)
    }
}

fn disconnected() -> Error {
    Error::Connection("the client has disconnected".into())
}

/// Puts the imports into a linker; that only guests of `wasi:messaging` use them was checked when
/// they were loaded.
pub(crate) fn link(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    let mut types = linker.instance(&versioned("types"))?;
    resource::<Client>(&mut types, "client")?;
    resource::<Message>(&mut types, "message")?;
    clients(&mut types)?;
    messages(&mut types)?;
    metadata(&mut types)?;
    linker.instance(&versioned("producer"))?.func_wrap(
        "send",
        |mut store, (client, topic, message): (Resource<Client>, Box<str>, Resource<Message>)| {
            Ok((store.data_mut().send(&client, topic, &message)?,))
        },
    )?;
    let mut request_reply = linker.instance(&versioned("request-reply"))?;
    resource::<RequestOptions>(&mut request_reply, "request-options")?;
    requests(&mut request_reply)
}

fn resource<T: 'static>(instance: &mut Instance<'_>, name: &str) -> wasmtime::Result<()> {
    instance.resource(name, ResourceType::host::<T>(), |mut store, number| {
        store.data_mut().let_go(number);
        Ok(())
    })
}

fn clients(types: &mut Instance<'_>) -> wasmtime::Result<()> {
    // All names are good, and none is kept: there is one place to be connected to.
    types.func_wrap("[static]client.connect", |mut store, (_,): (String,)| {
        Ok((store.data_mut().connect()?,))
    })?;
    types.func_wrap(
        "[method]client.disconnect",
        |mut store, (client,): (Resource<Client>,)| Ok((store.data_mut().disconnect(&client)?,)),
    )
}

type Handle = (Resource<Message>,);

fn messages(types: &mut Instance<'_>) -> wasmtime::Result<()> {
    types.func_wrap("[constructor]message", |mut store, (data,): (Vec<u8>,)| {
        let import = "wasi:messaging/types.message";
        let state = store.data_mut();
        state.enter(import)?;
        Ok((state.hold_message(import, Message::of_data(data))?,))
    })?;
    types.func_wrap("[method]message.topic", |mut store, (message,): Handle| {
        let import = "wasi:messaging/types.message.topic";
        let state = store.data_mut();
        Ok(state.look(import, &message, |message| message.topic.clone())?)
    })?;
    types.func_wrap(
        "[method]message.content-type",
        |mut store, (message,): Handle| {
            let import = "wasi:messaging/types.message.content-type";
            let state = store.data_mut();
            Ok(state.look(import, &message, |message| message.content_type.clone())?)
        },
    )?;
    types.func_wrap(
        "[method]message.set-content-type",
        |mut store, (message, content_type): (Resource<Message>, Box<str>)| {
            let import = "wasi:messaging/types.message.set-content-type";
            Ok(store.data_mut().change(import, &message, |message| {
                message.content_type = Some(content_type);
            })?)
        },
    )?;
    types.func_wrap("[method]message.data", |mut store, (message,): Handle| {
        let import = "wasi:messaging/types.message.data";
        let state = store.data_mut();
        Ok(state.look(import, &message, |message| message.data.clone())?)
    })?;
    types.func_wrap(
        "[method]message.set-data",
        |mut store, (message, data): (Resource<Message>, Vec<u8>)| {
            let import = "wasi:messaging/types.message.set-data";
            Ok(store.data_mut().change(import, &message, |message| {
                message.data = data.into();
            })?)
        },
    )
}

fn metadata(types: &mut Instance<'_>) -> wasmtime::Result<()> {
    types.func_wrap(
        "[method]message.metadata",
        |mut store, (message,): Handle| {
            let import = "wasi:messaging/types.message.metadata";
            let metadata = |message: &Message| {
                Some(message.metadata.clone()).filter(|metadata| !metadata.is_empty())
            };
            Ok(store.data_mut().look(import, &message, metadata)?)
        },
    )?;
    types.func_wrap(
        "[method]message.add-metadata",
        |mut store, (message, key, value): (Resource<Message>, String, String)| {
            let import = "wasi:messaging/types.message.add-metadata";
            Ok(store.data_mut().change(import, &message, |message| {
                message.add_metadata(key, value);
            })?)
        },
    )?;
    types.func_wrap(
        "[method]message.set-metadata",
        |mut store, (message, metadata): (Resource<Message>, Vec<(String, String)>)| {
            let import = "wasi:messaging/types.message.set-metadata";
            Ok(store.data_mut().change(import, &message, |message| {
                message.metadata = metadata;
            })?)
        },
    )?;
    types.func_wrap(
        "[method]message.remove-metadata",
        |mut store, (message, key): (Resource<Message>, String)| {
            let import = "wasi:messaging/types.message.remove-metadata";
            Ok(store.data_mut().change(import, &message, |message| {
                message.metadata.retain(|(found, _)| *found != key);
            })?)
        },
    )
}

type RequestParams = (
    Resource<Client>,
    String,
    Resource<Message>,
    Option<Resource<RequestOptions>>,
);
type SetParams = (Resource<RequestOptions>, u32);

fn requests(request_reply: &mut Instance<'_>) -> wasmtime::Result<()> {
    request_reply.func_wrap("[constructor]request-options", |mut store, (): ()| {
        let import = "wasi:messaging/request-reply.request-options";
        let state = store.data_mut();
        state.enter(import)?;
        let options: Resource<RequestOptions> =
            state.hold(import, Thing::Options(RequestOptions))?;
        Ok((options,))
    })?;
    request_reply.func_wrap(
        "[method]request-options.set-timeout-ms",
        |mut store, _: SetParams| {
            let import = "wasi:messaging/request-reply.request-options.set-timeout-ms";
            Ok(store.data_mut().enter(import)?)
        },
    )?;
    request_reply.func_wrap(
        "[method]request-options.set-expected-replies",
        |mut store, _: SetParams| {
            let import = "wasi:messaging/request-reply.request-options.set-expected-replies";
            Ok(store.data_mut().enter(import)?)
        },
    )?;
    request_reply.func_wrap(
        "request",
        |mut store, (client, _, _, options): RequestParams| {
            let state = store.data_mut();
            Ok((state.request(&client, options.as_ref())?,))
        },
    )?;
    request_reply.func_wrap(
        "reply",
        |mut store, (to, message): (Resource<Message>, Resource<Message>)| {
            Ok((store.data_mut().reply(&to, &message)?,))
        },
    )
}
