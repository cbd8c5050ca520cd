//! One device's task: waits for whatever comes next, and carries out what the device wants.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rmqtt_codec::v3::Packet;
use tokio::time::{Instant, sleep_until};
use updraft_fleet::{Device, DeviceConfig, Input, Output};

use super::Shared;
use super::counters::State;
use super::fetch::{Download, FetchEvent};
use super::wire::Wire;

/// A device with its sockets.
pub(super) struct Runner {
    device: Device,
    shared: Arc<Shared>,
    wire: Option<Wire>,
    /// Whether a PINGREQ is out and nothing has come since.
    pinged: bool,
    /// Boxed, since most devices have none most of the time.
    download: Option<Box<Download>>,
    wake: Option<Instant>,
    state: State,
}

/// What a device's task waits for.
enum Event {
    Wake,
    Packet(io::Result<Packet>),
    Fetch(FetchEvent),
}

impl Runner {
    pub(super) fn new(config: DeviceConfig, shared: Arc<Shared>) -> Self {
        let device = Device::new(config);
        let state = state_of(&device);
        Self { device, shared, wire: None, pinged: false, download: None, wake: None, state }
    }

    /// Runs for ever.
    pub(super) async fn run(&mut self) {
        self.feed(Input::Tick).await;
        loop {
            match self.next_event().await {
                Event::Wake => self.woken().await,
                Event::Packet(Ok(packet)) => self.received(packet).await,
                Event::Packet(Err(error)) => self.lost(&error).await,
                Event::Fetch(event) => self.fetched(event).await,
            }
        }
    }

    /// Says goodbye.
    pub(super) async fn switch_off(&mut self) {
        if let Some(mut wire) = self.wire.take() {
            // The server may be gone; that is all the same now.
            let _ = wire.send(Packet::Disconnect).await;
        }
        self.download = None;
        let off = State { connected: false, ..self.state };
        self.shared.counters.moved(&self.state, &off);
        self.state = off;
    }

    async fn next_event(&mut self) -> Event {
        let due = [self.wake, self.ping_due()].into_iter().flatten().min();
        let wire = &mut self.wire;
        let download = &mut self.download;
        tokio::select! {
            packet = async {
                match wire {
                    Some(wire) => wire.recv().await,
                    None => std::future::pending().await,
                }
            } => Event::Packet(packet),
            event = async {
                match download {
                    Some(download) => download.next().await,
                    None => std::future::pending().await,
                }
            } => Event::Fetch(event),
            () = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            } => Event::Wake,
        }
    }

    /// Half a keepalive after the last packet: late enough to be rare, early enough to be safe.
    fn ping_due(&self) -> Option<Instant> {
        let half = Duration::from_secs(u64::from(self.device.config().keepalive_s.max(2))) / 2;
        self.wire.as_ref().map(|wire| wire.last_sent() + half)
    }

    async fn woken(&mut self) {
        let now = Instant::now();
        if self.ping_due().is_some_and(|due| due <= now) {
            self.ping().await;
        }
        if self.wake.is_some_and(|wake| wake <= now) {
            self.wake = None;
            self.feed(Input::Tick).await;
        }
    }

    async fn ping(&mut self) {
        if self.pinged {
            self.lost(&io::ErrorKind::TimedOut.into()).await;
        } else if let Some(wire) = &mut self.wire {
            self.pinged = true;
            if let Err(error) = wire.send(Packet::PingRequest).await {
                self.lost(&error).await;
            }
        }
    }

    async fn received(&mut self, packet: Packet) {
        self.pinged = false;
        match packet {
            Packet::Publish(publish) => {
                if let Some(wire) = &mut self.wire
                    && let Err(error) = wire.acknowledge(&publish).await
                {
                    self.lost(&error).await;
                    return;
                }
                self.feed(Input::Message { topic: &publish.topic, payload: &publish.payload }).await;
            }
            Packet::PublishAck { .. } => self.feed(Input::PubAck).await,
            _ => {}
        }
    }

    async fn lost(&mut self, error: &io::Error) {
        self.drop_wire(error);
        self.feed(Input::Disconnected).await;
    }

    fn drop_wire(&mut self, error: &io::Error) {
        tracing::debug!(device = ?self.device.config().identity, %error, "connection lost");
        self.wire = None;
        self.pinged = false;
    }

    async fn fetched(&mut self, event: FetchEvent) {
        match event {
            FetchEvent::Progress(bytes) => self.feed(Input::DownloadProgress { bytes }).await,
            FetchEvent::Done { digest, size } => {
                self.download = None;
                self.feed(Input::Downloaded { digest: &digest, size }).await;
            }
            FetchEvent::Failed => {
                if let Some(download) = &mut self.download {
                    download.stop();
                }
                self.feed(Input::DownloadFailed).await;
            }
        }
    }

    /// Tells the device, and carries out what it wants until it wants no more.
    async fn feed(&mut self, input: Input<'_>) {
        let mut todo = VecDeque::new();
        self.tell(input, &mut todo);
        while let Some(output) = todo.pop_front() {
            if let Some(input) = self.carry_out(output).await {
                self.tell(input, &mut todo);
            }
        }
    }

    fn tell(&mut self, input: Input<'_>, todo: &mut VecDeque<Output>) {
        let mut wanted = Vec::new();
        self.device.handle(self.shared.clock.now(), input, &mut wanted);
        todo.extend(wanted);
        let state = state_of(&self.device);
        self.shared.counters.moved(&self.state, &state);
        self.state = state;
    }

    /// Does one thing; tells what came of it, if the device must know.
    async fn carry_out(&mut self, output: Output) -> Option<Input<'static>> {
        let sent = match output {
            Output::Connect(info) => {
                self.shared.gate.pass().await;
                let opened = Wire::open(&self.shared.target, info, self.shared.options.io_timeout).await;
                return Some(match opened {
                    Ok(wire) => {
                        self.wire = Some(wire);
                        Input::Connected
                    }
                    Err(error) => {
                        self.shared.counters.refused();
                        self.drop_wire(&error);
                        Input::Disconnected
                    }
                });
            }
            Output::Subscribe(topics) => self.wire.as_mut()?.subscribe(topics).await,
            Output::Publish { topic, payload, qos } => {
                self.wire.as_mut()?.publish(topic, payload, qos).await.map(|_| ())
            }
            Output::Disconnect => {
                let goodbye = self.wire.as_mut()?.send(Packet::Disconnect).await;
                self.wire = None;
                self.pinged = false;
                // Gone is gone: the device does not wait for an answer.
                goodbye.or(Ok(()))
            }
            Output::Download(fetch) => {
                let earlier = self.download.take().map(|download| *download);
                let shared = Arc::clone(&self.shared);
                self.download = Some(Box::new(Download::start(fetch, earlier, shared).await));
                Ok(())
            }
            Output::CancelDownload => {
                self.download.as_mut()?.stop();
                Ok(())
            }
            Output::WakeAt(at) => {
                self.wake = Some(self.shared.clock.instant(at));
                Ok(())
            }
        };
        sent.err().map(|error| {
            self.drop_wire(&error);
            Input::Disconnected
        })
    }
}

fn state_of(device: &Device) -> State {
    State { phase: device.phase(), connected: device.is_connected(), stats: device.stats() }
}
