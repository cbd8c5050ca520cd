//! One device's mailbox: which topics it hears, and what waits to be written to it. Pure.

use super::link::{Downlink, Question};
use super::packet::Reason;
use super::topic::{DownTopic, Owner, is_filter, matches};
use std::collections::VecDeque;
use updraft_core::id::TaskNo;
use updraft_core::limits::SUBSCRIPTIONS_MAX;

/// Most messages that wait for one device. The engine repeats pushes, so more would only be old news.
pub const QUEUE_MAX: usize = 64;
/// Most withdrawals remembered for one device: it has few open tasks, one per module.
const WITHDRAWN_MAX: usize = 16;

/// What became of a message to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It goes out.
    Queued,
    /// The device has no session here.
    Offline,
    /// The device does not listen to this topic.
    NotListening,
    /// The task was withdrawn at a later revision.
    Withdrawn,
    /// The same push was sent on this connection before.
    Repeated,
    /// The device does not take its messages fast enough.
    Full,
    /// It waits for the device's return.
    Kept,
}

/// What a SUBSCRIBE did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscribed {
    /// Why the filter is not granted.
    pub refused: Option<Reason>,
    /// Whether pushes reach the device from now on, and did not before.
    pub listening_began: bool,
}

/// Subscriptions and waiting messages of one session. Empty, it owns no memory.
#[derive(Default)]
pub struct Mailbox {
    queue: VecDeque<Downlink>,
    auto_subscribe: bool,
    /// By [`DownTopic`]: subscribed by its exact name.
    subscribed: [bool; DownTopic::ALL.len()],
    /// By [`DownTopic`]: explicitly unsubscribed, which ends automatic delivery too.
    unsubscribed: [bool; DownTopic::ALL.len()],
    /// In a box, since most sessions have nothing of it for weeks.
    seldom: Option<Box<Seldom>>,
}

/// What of a mailbox few sessions have.
#[derive(Default)]
struct Seldom {
    /// Filters with wildcards that match one of the topics; others can never have an effect.
    wildcards: Vec<Box<str>>,
    /// Tasks taken back, with the revision from which on they are news again.
    withdrawn: Vec<(TaskNo, i64)>,
    /// The last push of this connection: a slot that comes due while the device begins to listen would send
    /// it twice.
    last_push: Option<(TaskNo, i64)>,
}

impl Mailbox {
    /// An empty one; `auto_subscribe` delivers without any subscription.
    pub fn new(auto_subscribe: bool) -> Self {
        Self { auto_subscribe, ..Self::default() }
    }

    /// From now on everything is delivered that the device has not unsubscribed from.
    pub fn deliver_all(&mut self) {
        self.auto_subscribe = true;
    }

    /// The connection is gone: drops what is not for the next one. What the device is to be pushed the engine says
    /// again, with a fresh address, and who misses an answer asks again.
    pub fn strand(&mut self) {
        self.queue.retain(|message| matches!(message, Downlink::Message { kept: true, .. }));
        self.queue.shrink_to_fit();
        self.seldom.take_if(|seldom| {
            seldom.withdrawn = Vec::new();
            seldom.last_push = None;
            seldom.wildcards.is_empty()
        });
    }

    fn seldom(&mut self) -> &mut Seldom {
        self.seldom.get_or_insert_default()
    }

    fn wildcards(&self) -> &[Box<str>] {
        self.seldom.as_deref().map_or(&[], |seldom| &seldom.wildcards)
    }

    /// Bytes of the messages that wait.
    pub fn bytes(&self) -> usize {
        let bytes = |message: &Downlink| match message {
            Downlink::Message { payload, topic, .. } => payload.len() + topic.len(),
            Downlink::Push { .. } | Downlink::PullReply { .. } => 0,
        };
        self.queue.iter().map(bytes).sum()
    }

    /// Whether it delivers without any subscription.
    pub fn is_auto_subscribed(&self) -> bool {
        self.auto_subscribe
    }

    /// The rule of delivery: automatic and not unsubscribed, or subscribed. Either way it is one message.
    pub fn delivers(&self, owner: Owner<'_>, topic: DownTopic) -> bool {
        (self.auto_subscribe && !self.unsubscribed[topic as usize])
            || self.subscribed[topic as usize]
            || (!self.wildcards().is_empty() && {
                let name = owner.downlink(topic);
                self.wildcards().iter().any(|filter| matches(filter, &name))
            })
    }

    /// Whether answers go out on this topic: who asks wants one, subscribed or not, but for who has unsubscribed.
    pub fn answers(&self, owner: Owner<'_>, topic: DownTopic) -> bool {
        !self.unsubscribed[topic as usize] || self.delivers(owner, topic)
    }

    /// Takes a subscription of the device.
    pub fn subscribe(&mut self, owner: Owner<'_>, filter: &str) -> Subscribed {
        let refused = |why| Subscribed { refused: Some(why), listening_began: false };
        if !is_filter(filter) {
            return refused(Reason::TopicFilterInvalid);
        }
        if filter.starts_with("$share/") {
            return refused(Reason::SharedNotSupported);
        }
        if !owner.owns(filter) {
            return refused(Reason::NotAuthorized);
        }
        let before = self.delivers(owner, DownTopic::Upgrade);
        let exact = DownTopic::ALL.into_iter().find(|topic| owner.names(filter, *topic));
        if let Some(topic) = exact {
            self.subscribed[topic as usize] = true;
            self.unsubscribed[topic as usize] = false;
        } else if DownTopic::ALL.into_iter().any(|topic| matches(filter, &owner.downlink(topic)))
            && !self.wildcards().iter().any(|known| **known == *filter)
        {
            if self.wildcards().len() >= SUBSCRIPTIONS_MAX {
                return refused(Reason::QuotaExceeded);
            }
            self.seldom().wildcards.push(filter.into());
        }
        let listening_began = !before && self.delivers(owner, DownTopic::Upgrade);
        Subscribed { refused: None, listening_began }
    }

    /// Takes a subscription back; whether there may have been one: those without effect are not remembered.
    pub fn unsubscribe(&mut self, owner: Owner<'_>, filter: &str) -> bool {
        let wildcards = self.wildcards().len();
        if let Some(seldom) = &mut self.seldom {
            seldom.wildcards.retain(|known| **known != *filter);
        }
        let mut known = self.wildcards().len() < wildcards;
        let mut effective = DownTopic::ALL.into_iter().any(|topic| matches(filter, &owner.downlink(topic)));
        for topic in DownTopic::ALL {
            if owner.names(filter, topic) {
                effective = true;
                known |= self.subscribed[topic as usize];
                known |= self.auto_subscribe && !self.unsubscribed[topic as usize];
                self.subscribed[topic as usize] = false;
                self.unsubscribed[topic as usize] = true;
                if let Some(seldom) = &mut self.seldom {
                    seldom.last_push = None;
                }
            }
        }
        known || (!effective && owner.owns(filter))
    }

    /// Queues a message, if the device is to have it.
    pub fn post(&mut self, owner: Owner<'_>, mut message: Downlink) -> Sent {
        match &mut message {
            Downlink::Push { task, revision, .. } => {
                if !self.delivers(owner, DownTopic::Upgrade) {
                    return Sent::NotListening;
                }
                if self.is_withdrawn(*task, *revision) {
                    return Sent::Withdrawn;
                }
                if self.seldom.as_ref().is_some_and(|seldom| seldom.last_push == Some((*task, *revision))) {
                    return Sent::Repeated;
                }
                if self.queue.len() < QUEUE_MAX {
                    self.seldom().last_push = Some((*task, *revision));
                }
            }
            Downlink::PullReply { asked, package } => {
                let topic = match asked.by {
                    Question::Get => DownTopic::GetReply,
                    Question::Request => DownTopic::RequestReply,
                };
                if !self.answers(owner, topic) {
                    return Sent::NotListening;
                }
                if package.as_ref().is_some_and(|(task, revision, _)| self.is_withdrawn(*task, *revision)) {
                    *package = None;
                }
            }
            Downlink::Message { topic, answer, .. } => {
                let known = DownTopic::ALL.into_iter().find(|known| owner.names(topic, *known));
                let heard = known.is_none_or(|topic| {
                    if *answer { self.answers(owner, topic) } else { self.delivers(owner, topic) }
                });
                if !heard {
                    return Sent::NotListening;
                }
            }
        }
        if self.queue.len() >= QUEUE_MAX {
            return Sent::Full;
        }
        self.queue.push_back(message);
        Sent::Queued
    }

    /// The next message to write; one at QoS 1 only if `push_too`, since those wait for a free slot.
    pub fn next(&mut self, push_too: bool) -> Option<Downlink> {
        let waits = |m: &Downlink| matches!(m, Downlink::Push { .. } | Downlink::Message { kept: true, .. });
        let at = self.queue.iter().position(|message| push_too || !waits(message))?;
        let message = self.queue.remove(at);
        if self.queue.is_empty() {
            // Give the memory back: most sessions wait for weeks.
            self.queue = VecDeque::new();
        }
        message
    }

    /// Takes a task back; see `Sessions::withdraw`.
    pub fn withdraw(&mut self, task: TaskNo, revision: i64) {
        let withdrawn = &mut self.seldom().withdrawn;
        withdrawn.retain(|(known, _)| *known != task);
        if withdrawn.len() >= WITHDRAWN_MAX {
            withdrawn.remove(0);
        }
        withdrawn.push((task, revision));
        let taken_back = |of: TaskNo, at: i64| of == task && at < revision;
        self.queue.retain_mut(|message| match message {
            Downlink::Push { task, revision, .. } => !taken_back(*task, *revision),
            Downlink::PullReply { package, .. } => {
                if package.as_ref().is_some_and(|(task, revision, _)| taken_back(*task, *revision)) {
                    *package = None;
                }
                true
            }
            Downlink::Message { .. } => true,
        });
    }

    fn is_withdrawn(&self, task: TaskNo, revision: i64) -> bool {
        let withdrawn = self.seldom.iter().flat_map(|seldom| &seldom.withdrawn);
        withdrawn.copied().any(|(known, until)| known == task && revision < until)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::link::{Asked, Package};
    use super::*;
    use std::sync::Arc;
    use updraft_core::firmware::SignMethod;
    use updraft_core::id::JobNo;

    const UPGRADE: &str = "/ota/device/upgrade/pk/dev1";
    const GET_REPLY: &str = "/sys/pk/dev1/thing/ota/firmware/get_reply";
    const ME: Owner<'static> = Owner { product_key: "pk", device_name: "dev1" };

    pub fn task(ordinal: i64) -> TaskNo {
        TaskNo { job: JobNo(1), ordinal }
    }

    fn package() -> Arc<Package> {
        Arc::new(Package {
            version: "2".to_owned(),
            module: "default".to_owned(),
            differential: false,
            sign_method: SignMethod::Md5,
            files: Vec::new(),
            stream: None,
            tags: Vec::new(),
            udi: None,
        })
    }

    pub fn push(ordinal: i64, revision: i64) -> Downlink {
        Downlink::Push { task: task(ordinal), revision, package: package(), id: 1 }
    }

    fn answer(ordinal: i64, revision: i64) -> Downlink {
        let asked = Asked { by: Question::Get, id: "1".to_owned() };
        Downlink::PullReply { asked, package: Some((task(ordinal), revision, package())) }
    }

    fn listens(mailbox: &Mailbox) -> bool {
        mailbox.delivers(ME, DownTopic::Upgrade)
    }

    #[test]
    fn subscriptions_decide_who_listens() {
        let mut mailbox = Mailbox::new(false);
        assert!(!listens(&mailbox));
        assert_eq!(mailbox.post(ME, push(1, 1)), Sent::NotListening);
        assert_eq!(mailbox.post(ME, answer(1, 1)), Sent::Queued, "who asks gets an answer");
        let refused = |why| Subscribed { refused: Some(why), listening_began: false };
        let foreign = refused(Reason::NotAuthorized);
        let own = |began| Subscribed { refused: None, listening_began: began };
        for (filter, expected) in [
            ("/ota/device/upgrade/pk/dev2", foreign),
            ("/ota/device/upgrade/+/+", foreign),
            ("/ota/#/pk/dev1", refused(Reason::TopicFilterInvalid)),
            ("$share/g//ota/device/upgrade/pk/dev1", refused(Reason::SharedNotSupported)),
            ("/sys/pk/dev1/#", own(false)),
            ("/ota/device/request/pk/dev1", own(false)),
            (UPGRADE, own(true)),
            (UPGRADE, own(false)),
            ("/ota/device/+/pk/dev1", own(false)),
        ] {
            assert_eq!(mailbox.subscribe(ME, filter), expected, "{filter}");
        }
        mailbox.unsubscribe(ME, UPGRADE);
        assert!(listens(&mailbox), "the wildcard is left");
        mailbox.unsubscribe(ME, "/ota/device/+/pk/dev1");
        assert!(!listens(&mailbox));
        assert_eq!(mailbox.subscribe(ME, UPGRADE), own(true));

        mailbox.unsubscribe(ME, GET_REPLY);
        assert_eq!(mailbox.post(ME, answer(1, 1)), Sent::Queued, "/sys/pk/dev1/# is left");
        mailbox.unsubscribe(ME, "/sys/pk/dev1/#");
        assert_eq!(mailbox.post(ME, answer(1, 1)), Sent::NotListening);
    }

    #[test]
    fn an_unsubscribe_knows_what_was_there() {
        let mut mailbox = Mailbox::new(false);
        mailbox.subscribe(ME, UPGRADE);
        mailbox.subscribe(ME, "/sys/pk/dev1/#");
        for (filter, there) in [
            (UPGRADE, true),
            (UPGRADE, false),
            ("/sys/pk/dev1/#", true),
            ("/sys/pk/dev1/#", false),
            ("/pk/dev1/user/get", true),
            ("/pk/dev2/user/get", false),
        ] {
            assert_eq!(mailbox.unsubscribe(ME, filter), there, "{filter}");
        }
        assert!(Mailbox::new(true).unsubscribe(ME, UPGRADE), "delivered without a subscription");
    }

    #[test]
    fn other_messages_follow_the_subscriptions_to_their_topic() {
        let message = |topic: &str, kept, answer| Downlink::Message {
            topic: topic.to_owned(),
            payload: bytes::Bytes::new(),
            kept,
            answer,
        };
        let mut mailbox = Mailbox::new(false);
        assert_eq!(mailbox.post(ME, message(GET_REPLY, true, false)), Sent::NotListening);
        assert_eq!(mailbox.post(ME, message(GET_REPLY, true, true)), Sent::Queued);
        assert_eq!(mailbox.post(ME, message("/ext/error/pk/dev1", false, false)), Sent::Queued);
        assert!(
            matches!(mailbox.next(false), Some(Downlink::Message { kept: false, .. })),
            "the first waits"
        );
        assert!(mailbox.next(false).is_none());
        mailbox.unsubscribe(ME, GET_REPLY);
        assert_eq!(mailbox.post(ME, message(GET_REPLY, true, true)), Sent::NotListening);
        assert!(mailbox.next(true).is_some());
    }

    #[test]
    fn automatic_delivery_ends_with_an_unsubscribe() {
        let mut mailbox = Mailbox::new(true);
        assert!(listens(&mailbox));
        assert!(!mailbox.subscribe(ME, UPGRADE).listening_began);
        mailbox.unsubscribe(ME, GET_REPLY);
        assert!(listens(&mailbox));
        mailbox.unsubscribe(ME, UPGRADE);
        assert!(!listens(&mailbox));
        assert!(mailbox.subscribe(ME, UPGRADE).listening_began);
    }

    #[test]
    fn wildcards_are_bounded() {
        let mut mailbox = Mailbox::new(false);
        let levels = ["", "sys", "pk", "dev1", "thing", "ota", "firmware", "get_reply"];
        let filters = (0..256).filter(|mask| mask & 0b1100 == 0).map(|mask| {
            let level = |at: usize| if mask >> at & 1 == 1 { "+" } else { levels[at] };
            (0..levels.len()).map(level).collect::<Vec<_>>().join("/") + "/#"
        });
        let granted: usize = filters.map(|f| usize::from(mailbox.subscribe(ME, &f).refused.is_none())).sum();
        assert_eq!((granted, mailbox.wildcards().len()), (SUBSCRIPTIONS_MAX, SUBSCRIPTIONS_MAX));
        assert_eq!(mailbox.subscribe(ME, "/sys/pk/dev1/#").refused, Some(Reason::QuotaExceeded));
        assert_eq!(mailbox.subscribe(ME, "/sys/pk/dev1/thing/job/#").refused, None, "this one is not kept");
    }

    #[test]
    fn a_withdrawn_task_is_not_sent_whichever_comes_first() {
        let mut mailbox = Mailbox::new(true);
        mailbox.post(ME, push(1, 1));
        mailbox.post(ME, answer(1, 1));
        mailbox.post(ME, push(2, 1));
        mailbox.withdraw(task(1), 2);
        assert_eq!(mailbox.post(ME, push(1, 1)), Sent::Withdrawn);
        mailbox.post(ME, answer(1, 1));
        let rest: Vec<Downlink> = std::iter::from_fn(|| mailbox.next(true)).collect();
        let as_expected = matches!(
            rest.as_slice(),
            [
                Downlink::PullReply { package: None, .. },
                Downlink::Push { task: TaskNo { ordinal: 2, .. }, .. },
                Downlink::PullReply { package: None, .. },
            ]
        );
        assert!(as_expected, "{rest:?}");
        assert_eq!(mailbox.post(ME, push(1, 2)), Sent::Queued, "a later decision");
    }

    #[test]
    fn the_same_push_goes_out_once_per_connection() {
        let mut mailbox = Mailbox::new(true);
        assert_eq!(mailbox.post(ME, push(1, 2)), Sent::Queued);
        assert_eq!(mailbox.post(ME, push(1, 2)), Sent::Repeated);
        assert_eq!(mailbox.post(ME, push(1, 3)), Sent::Queued, "the task changed");
        mailbox.unsubscribe(ME, UPGRADE);
        mailbox.subscribe(ME, UPGRADE);
        assert_eq!(mailbox.post(ME, push(1, 3)), Sent::Queued, "it began to listen anew");
    }

    #[test]
    fn the_queue_is_bounded_and_answers_pass_waiting_pushes() {
        let mut mailbox = Mailbox::new(true);
        for ordinal in 1..QUEUE_MAX as i64 {
            assert_eq!(mailbox.post(ME, push(ordinal, 1)), Sent::Queued);
        }
        assert_eq!(mailbox.post(ME, answer(1, 1)), Sent::Queued);
        assert_eq!(mailbox.post(ME, push(1, 1)), Sent::Full);
        assert!(matches!(mailbox.next(false), Some(Downlink::PullReply { .. })));
        assert!(mailbox.next(false).is_none());
        assert!(matches!(mailbox.next(true), Some(Downlink::Push { .. })));
    }
}
