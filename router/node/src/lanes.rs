//! Connection threads: one current-thread runtime each, connections spread over them.
//!
//! One UDP socket and one QUIC endpoint receive for all of them, on the first lane, so that a
//! connection stays what it is when its client changes its address; everything else of a
//! connection (crypto, streams, its tasks) stays on its own lane.

use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller};
use tokio::runtime::Handle;
use tokio::sync::watch;
use waypost_wire::LOOPBACK_UDP_PAYLOAD_MAX;

/// How long the end of a lane waits for work that its tasks gave away.
const BLOCKING_PATIENCE: Duration = Duration::from_secs(1);

/// The lanes. Tasks of a lane end when the lanes are stopped.
pub(crate) struct Lanes {
    handles: Vec<Handle>,
    stop: watch::Sender<bool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Lanes {
    /// Starts `count` lanes, at least one.
    pub fn start(count: usize) -> std::io::Result<Lanes> {
        let (stop, stopped) = watch::channel(false);
        let mut handles = Vec::new();
        let mut threads = Vec::new();
        for index in 0..count.max(1) {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            handles.push(runtime.handle().clone());
            let mut stopped = stopped.clone();
            let name = format!("waypost-lane-{index}");
            threads.push(std::thread::Builder::new().name(name).spawn(move || {
                runtime.block_on(async move {
                    let _ = stopped.wait_for(|stop| *stop).await;
                });
                // A compiler may be at work for somebody who is gone.
                runtime.shutdown_timeout(BLOCKING_PATIENCE);
            })?);
        }
        Ok(Lanes {
            handles,
            stop,
            threads,
        })
    }

    /// The handle of one lane.
    pub fn handle(&self, lane: usize) -> &Handle {
        &self.handles[lane % self.handles.len()]
    }

    /// All handles.
    pub fn handles(&self) -> &[Handle] {
        &self.handles
    }

    /// Ends all lanes with the tasks that are left.
    pub fn stop(self) {
        let _ = self.stop.send(true);
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

/// What quinn spawns: the endpoint on the first lane, each connection's driver on the lane that
/// was aimed at before it was accepted.
#[derive(Debug)]
pub(crate) struct Spread {
    handles: Vec<Handle>,
    aim: AtomicUsize,
}

impl Spread {
    pub fn new(lanes: &Lanes) -> Arc<Spread> {
        Arc::new(Spread {
            handles: lanes.handles().to_vec(),
            aim: AtomicUsize::new(0),
        })
    }

    /// The lane for what is spawned next. Only the accepting task aims, and accepting spawns at
    /// once, so that nothing comes between.
    pub fn aim(&self, lane: usize) -> &Handle {
        let lane = lane % self.handles.len();
        self.aim.store(lane, Relaxed);
        &self.handles[lane]
    }
}

impl Runtime for Spread {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.handles[self.aim.load(Relaxed)].spawn(future);
    }

    fn wrap_udp_socket(
        &self,
        socket: std::net::UdpSocket,
    ) -> std::io::Result<Arc<dyn AsyncUdpSocket>> {
        Ok(Arc::new(Sized64K(TokioRuntime.wrap_udp_socket(socket)?)))
    }
}

/// The system's socket, of which one receive is known to bring at most 64 KiB, however many
/// datagrams it joins. quinn makes room for the largest datagram times the most that can be joined,
/// which would be 13 MB where 2 MB can be filled.
#[derive(Debug)]
struct Sized64K(Arc<dyn AsyncUdpSocket>);

/// Datagrams of the largest size that hold 64 KiB.
const RECEIVE_SEGMENTS: usize = (64 << 10) / LOOPBACK_UDP_PAYLOAD_MAX as usize + 1;

impl AsyncUdpSocket for Sized64K {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.0.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> std::io::Result<()> {
        self.0.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<std::io::Result<usize>> {
        self.0.poll_recv(cx, buffers, meta)
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.0.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.0.max_receive_segments().min(RECEIVE_SEGMENTS)
    }

    fn may_fragment(&self) -> bool {
        self.0.may_fragment()
    }
}
