//! A gateway is served: its questions are answered, the devices behind it come and go, and what is for them is written.

use super::envelope::{self, Told};
use super::subs::Subs;
use super::{Answer, Ask, Entrant, Name, Question, Request, trouble};
use crate::device::connection::{BACKLOG_BYTES_MAX, End, Endpoint};
use crate::device::link::{Backend, DeviceEvent, Downlink, Happened, Named};
use crate::device::packet::{Outbound, Reason};
use crate::device::session::{Ending, Session};
use crate::device::wire::Wire;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Instant;
use updraft_core::topo::{Refusal, Refused};

/// A question that was heard and is not answered yet.
pub struct Heard {
    /// The question.
    pub question: Question,
    /// The id of its packet, if it came at QoS 1.
    pub packet_id: Option<NonZeroU16>,
}

impl<B: Backend> Endpoint<B> {
    /// Answers a gateway's question. Its packet is acknowledged after that, when all is durable.
    pub(in crate::device) async fn answer(
        &self,
        wire: &mut Wire,
        session: &Arc<Session>,
        subs: &mut Subs,
        heard: Heard,
    ) -> Result<(), End> {
        let Heard { question, packet_id } = heard;
        let outcome = match &question.ask {
            Err(why) => Err(Refused::from(*why)),
            Ok(Ask::Server(request)) => self.ask(session, subs, request).await?,
            Ok(Ask::Login(entrants)) => self.log_in(session, subs, &question.names, entrants).await?,
            Ok(Ask::Logout) => self.log_out(subs, &question.names).await?,
        };
        let told = match &outcome {
            Ok(Answer::Done(names)) => Ok(Told::Names(names)),
            Ok(Answer::Secrets(secrets)) => Ok(Told::Secrets(secrets)),
            Ok(Answer::Found(_)) => Ok(Told::Names(&question.names)),
            Err(refused) => {
                tracing::debug!(gateway = session.device.0, kind = ?question.kind, why = ?refused.why, "refused");
                Err(refused.clone())
            }
        };
        session.send(Downlink::Message {
            topic: question.kind.reply_topic(session.owner()),
            payload: envelope::reply(&question, &told).into(),
            kept: packet_id.is_some(),
            answer: true,
        });
        match packet_id.map(|id| wire.put(Outbound::PublishAck(id, Reason::Success))) {
            Some(Err(_)) => Err(End::Protocol(Reason::PacketTooLarge, "it takes no acknowledgement")),
            _ => Ok(()),
        }
    }

    async fn ask(
        &self,
        session: &Session,
        subs: &mut Subs,
        request: &Request,
    ) -> Result<Result<Answer, Refused>, End> {
        let answer = self.backend.gateway(session.device, request.clone()).await?;
        // Who is behind it no more is not logged in through it. It asked for that, so it need not be told.
        if answer.is_ok()
            && let Request::Remove(names) | Request::Unregister(names) = request
        {
            let gone = names.iter().filter_map(|name| subs.take(name)).collect();
            self.end(gone, Ending::Kicked).await?;
        }
        Ok(answer)
    }

    /// Logs devices in: all or none.
    async fn log_in(
        &self,
        session: &Arc<Session>,
        subs: &mut Subs,
        names: &[Name],
        entrants: &[Entrant],
    ) -> Result<Result<Answer, Refused>, End> {
        let now = Instant::now();
        if !subs.may_log_in(entrants.len(), now) {
            return Ok(Err(Refusal::Throttled.into()));
        }
        if !subs.have_room_for(names) {
            return Ok(Err(Refusal::TooManyLogins.into()));
        }
        let request = Request::Find(entrants.iter().map(|entrant| entrant.claim.clone()).collect());
        let devices = match self.backend.gateway(session.device, request).await? {
            Ok(Answer::Found(devices)) => devices,
            Ok(_) => return Ok(Err(Refusal::Parameter.into())),
            Err(refused) => return Ok(Err(refused)),
        };
        let auto = session.is_auto_subscribed();
        let (mut new, mut events) = (Vec::new(), Vec::new());
        for (entrant, device) in entrants.iter().zip(devices) {
            let owner = entrant.claim.name.owner();
            let (auto, keeps) = (auto || entrant.auto_subscribe, entrant.keeps_session);
            let sub = self.sessions.insert_behind(subs.hub(), device, owner, auto, keeps, now);
            // The server stops. Who is in already leaves with the connection.
            let sub = sub.ok_or(End::Ours(Ending::Shutdown))?;
            let number = sub.number;
            let online = DeviceEvent::Online { session: number, ip: subs.ip().to_owned() };
            events.push(Happened { device, event: online });
            let through = DeviceEvent::Through { session: number, gateway: session.device };
            events.push(Happened { device, event: through });
            if sub.listening() {
                events.push(Happened { device, event: DeviceEvent::Listening });
            }
            subs.insert(Arc::clone(&sub));
            new.push(sub);
        }
        Box::pin(self.backend.happened(events)).await?;
        // Who was disabled or deleted meanwhile, or taken from behind the gateway, was sent away.
        let gone = |sub: &Arc<Session>| sub.ending() == Some(Ending::Kicked);
        let at: Vec<usize> =
            new.iter().enumerate().filter(|(_, sub)| gone(sub)).map(|(place, _)| place).collect();
        let Some(first) = at.first().and_then(|place| new.get(*place)) else {
            return Ok(Ok(Answer::Found(Vec::new())));
        };
        let why = match self.why_gone(first).await? {
            Refusal::Forbidden => Refusal::Disabled,
            Refusal::Deleted => Refusal::UnknownDevice,
            why => why,
        };
        let out = new.into_iter().filter(|sub| subs.forget(sub)).collect();
        self.end(out, Ending::Kicked).await?;
        Ok(Err(Refused { why, at }))
    }

    /// Logs devices out: all or none.
    async fn log_out(&self, subs: &mut Subs, names: &[Name]) -> Result<Result<Answer, Refused>, End> {
        let missing = |(place, name)| (!subs.contains(name)).then_some(place);
        let at: Vec<usize> = names.iter().enumerate().filter_map(missing).collect();
        if !at.is_empty() {
            return Ok(Err(Refused { why: Refusal::NoSession, at }));
        }
        let out = names.iter().filter_map(|name| subs.take(name)).collect();
        self.end(out, Ending::Gone).await?;
        Ok(Ok(Answer::Found(Vec::new())))
    }

    /// Ends sessions that are no longer among those of the connection; they are kept as their devices wish, unless they
    /// were kicked.
    async fn end(&self, sessions: Vec<Arc<Session>>, ending: Ending) -> Result<(), End> {
        let mut events = Vec::new();
        for session in sessions {
            session.end(ending);
            if self.sessions.remove(&session, Instant::now()) {
                let event = DeviceEvent::Offline { session: session.number };
                events.push(Happened { device: session.device, event });
            }
        }
        if !events.is_empty() {
            Box::pin(self.backend.happened(events)).await?;
        }
        Ok(())
    }

    /// Writes what is for devices behind the gateway, one message of each in turn; tells the gateway which of them
    /// lost their sessions.
    pub(in crate::device) async fn tend(
        &self,
        wire: &mut Wire,
        session: &Arc<Session>,
        subs: &mut Subs,
    ) -> Result<(), End> {
        let mut lost = Vec::new();
        while wire.backlog() < BACKLOG_BYTES_MAX
            && let Some(sub) = subs.next_ready()
        {
            if let Some(ending) = sub.ending() {
                if subs.forget(&sub) {
                    lost.push((sub, ending));
                }
            } else if let Some(message) = sub.next_behind() {
                if let Some((topic, payload)) = self.render(&sub, message) {
                    crate::device::connection::put(wire, session, topic, None, false, payload);
                }
                sub.line_up();
            }
        }
        for (sub, ending) in &lost {
            let why = match ending {
                Ending::TakenOver => Refusal::Elsewhere,
                _ => self.why_gone(sub).await?,
            };
            tell_trouble(session, subs, sub, why);
        }
        self.end(lost.into_iter().map(|(sub, _)| sub).collect(), Ending::Kicked).await
    }

    /// Why a device was sent away.
    async fn why_gone(&self, sub: &Session) -> Result<Refusal, End> {
        let owner = sub.owner();
        Ok(match self.backend.login(owner.product_key, owner.device_name).await? {
            Named::Unknown | Named::Deleted => Refusal::Deleted,
            // Another one of that name.
            Named::Known(known) if known.no != sub.device => Refusal::Deleted,
            Named::Known(known) if known.disabled => Refusal::Forbidden,
            Named::Known(_) => Refusal::NoTopology,
        })
    }

    /// The connection is over, and with it the sessions of the devices behind the gateway.
    pub(in crate::device) async fn leave_behind(&self, subs: &mut Subs) {
        let all = subs.take_all();
        let count = all.len();
        if count > 0 && self.end(all, Ending::Gone).await.is_err() {
            tracing::debug!(count, "nobody took note of the end of devices behind a gateway");
        }
    }
}

fn tell_trouble(session: &Arc<Session>, subs: &mut Subs, sub: &Session, why: Refusal) {
    let id = subs.trouble_id();
    session.send(Downlink::Message {
        topic: trouble::topic(session.owner()),
        payload: trouble::payload(&id, why, sub.owner()).into(),
        kept: false,
        answer: true,
    });
}
