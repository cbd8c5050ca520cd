//! Why devices have no task of a batch, and whether they will have one.

use super::{BORN, BORN_MS, NOW, RUNS, TERMS, holds, in_ms, listens, of, shape, task};
use updraft_core::dynamic::{Earlier, Policy, Reported};
use updraft_core::explain::{
    Explanation, Foreseen, Holds, Making, Newcomer, Rule, Seen, Verdict, Wait, newcomer,
};
use updraft_core::id::{DeviceNo, JobNo, TaskNo};
use updraft_core::job::{Conduct, DynamicMode, TargetSelection};
use updraft_core::target::{Demand, Standing};
use updraft_core::task::{Condition, TaskStatus};

/// A device without a task of a static batch for all devices, whose tasks are made.
fn stranger<'a>(device: &'a Seen<'a>, src_versions: &'a [String]) -> Newcomer<'a> {
    let demand = Demand {
        job: JobNo(5),
        src_versions,
        dest_version: "2.0",
        module: "default",
        conduct: Conduct::default(),
        unwanted: false,
    };
    Newcomer {
        no: DeviceNo(7),
        device,
        product_key: "a1",
        wanted_product_key: "a1",
        made_at: BORN,
        condition: RUNS,
        demand,
        selection: TargetSelection::All,
        making: Making { selecting: false, done: true, after: DeviceNo(9), upto: DeviceNo(9) },
        chosen: None,
        is_member: false,
        standing: &[],
        rule: None,
    }
}

fn told(of: &Newcomer<'_>) -> Explanation {
    newcomer(of, |no| no.to_string())
}

/// The verdict, and the first predicate that does not hold.
fn first(explanation: &Explanation) -> (Verdict, &str) {
    let no = explanation.checks.iter().find(|check| check.holds == Holds::No);
    (explanation.verdict, no.map_or("", |check| check.name))
}

#[test]
fn a_static_batch_says_why_it_has_no_task_for_a_device() {
    let sources = ["0.9".to_owned()];
    let device = listens();
    let base = stranger(&device, &[]);
    let product = told(&Newcomer { wanted_product_key: "b2", ..base });
    assert_eq!(first(&product), (Verdict::LeftOut, "PRODUCT"));
    let late = told(&Newcomer { no: DeviceNo(10), ..base });
    assert_eq!(first(&late), (Verdict::LeftOut, "REGISTERED"));
    let group = Newcomer { selection: TargetSelection::Group, ..base };
    assert_eq!(first(&told(&group)), (Verdict::LeftOut, "SELECTION"));
    assert_eq!(first(&told(&Newcomer { is_member: true, ..group })), (Verdict::LeftOut, ""));
    let source = told(&stranger(&device, &sources));
    assert_eq!(first(&source), (Verdict::LeftOut, "SOURCE_VERSION"));
    let said = source.sentence(|_| "T".to_owned());
    assert!(said.contains("As of now") && said.contains("version 1.0"), "{said}");
    let silent = Seen { reported: None, ..device };
    assert_eq!(first(&told(&stranger(&silent, &sources))), (Verdict::LeftOut, "SOURCE_VERSION"));
    let done = Seen { reported: Some(Reported { version: "2.0", at: NOW }), ..device };
    assert_eq!(first(&told(&stranger(&done, &[]))), (Verdict::LeftOut, "DEST_VERSION"));
    let gone = Seen { deleted_at: Some(NOW), ..device };
    assert_eq!(first(&told(&stranger(&gone, &[]))), (Verdict::LeftOut, "DEVICE"));
    let deleted = Condition { package_deleted: true, ..RUNS };
    assert_eq!(first(&told(&Newcomer { condition: deleted, ..base })), (Verdict::LeftOut, "PACKAGE"));
    let named = told(&Newcomer { selection: TargetSelection::Specific, ..base });
    assert_eq!((first(&named), holds(&named, "SELECTION")), ((Verdict::LeftOut, ""), Holds::NotAsked));
    assert!(told(&base).sentence(|_| String::new()).contains("would fit"), "honest about what is not known");
}

#[test]
fn a_batch_whose_tasks_are_being_made_says_what_is_to_come() {
    let device = listens();
    let other = TaskNo { job: JobNo(6), ordinal: 3 };
    let busy = [(other, Standing { job: other.job, module: "default", status: TaskStatus::InProgress })];
    let making = Making { selecting: false, done: false, after: DeviceNo(6), upto: DeviceNo(9) };
    let ahead = Newcomer { making, ..stranger(&device, &[]) };
    let comes = told(&ahead);
    assert_eq!(shape(&comes), (Some((Wait::Making, BORN_MS)), Foreseen::Decision, None));
    assert!(comes.sentence(|_| String::new()).contains("it gets one"));
    let comes = told(&Newcomer { standing: &busy, ..ahead });
    assert!(comes.sentence(|_| String::new()).contains("fails at once"));
    assert_eq!(first(&comes), (Verdict::ToCome, "BUSY"));
    let passed = Making { after: DeviceNo(7), ..making };
    assert_eq!(told(&Newcomer { making: passed, ..ahead }).verdict, Verdict::LeftOut);
    let gray = Newcomer { selection: TargetSelection::Gray, ..ahead };
    let choosing = Newcomer { making: Making { selecting: true, ..making }, ..gray };
    assert_eq!(shape(&told(&choosing)).0, Some((Wait::Choice, BORN_MS)));
    assert_eq!(first(&told(&Newcomer { chosen: Some(false), ..gray })), (Verdict::LeftOut, "SELECTION"));
    assert_eq!(first(&told(&Newcomer { chosen: Some(true), ..gray })), (Verdict::ToCome, ""));
}

/// A device without an open task of a dynamic batch that stands.
fn ruled<'a>(device: &'a Seen<'a>, mode: DynamicMode, earlier: &'a [Earlier]) -> Newcomer<'a> {
    let base = stranger(device, &[]);
    let conduct = Conduct { dynamic: Some(mode), ..Conduct::default() };
    let policy =
        Policy { job: JobNo(5), conduct, since: BORN.plus_ms(1), src_versions: &[], dest_version: "2.0" };
    let rule = Rule {
        policy,
        stands: true,
        follows: Some("five"),
        is_followed: true,
        may_upgrade: true,
        earlier,
        is_noted: false,
    };
    Newcomer { demand: Demand { conduct, ..base.demand }, rule: Some(rule), ..base }
}

#[test]
fn a_dynamic_batch_says_why_it_does_not_take_a_device_in() {
    use DynamicMode::{Later, NowAndLater};
    let device = listens();
    let with = |change: &dyn Fn(&mut Rule<'_>)| {
        let mut of = ruled(&device, NowAndLater, &[]);
        change(of.rule.as_mut().unwrap());
        told(&of)
    };
    let noted = with(&|rule| rule.is_noted = true);
    assert_eq!(shape(&noted), (Some((Wait::Round, BORN_MS)), Foreseen::Decision, None));
    assert_eq!(first(&with(&|rule| rule.stands = false)), (Verdict::LeftOut, "RULE"));
    let other = with(&|rule| {
        rule.is_followed = false;
        rule.follows = Some("six");
    });
    assert_eq!(first(&other), (Verdict::LeftOut, "NEWEST"));
    assert!(other.sentence(|_| String::new()).contains("six"));
    let unready = with(&|rule| rule.may_upgrade = false);
    assert_eq!(shape(&unready).0, Some((Wait::Verification, BORN_MS)));
    let later = told(&ruled(&device, Later, &[]));
    assert_eq!((first(&later).1, shape(&later).0), ("REPORT", Some((Wait::Report, BORN_MS))));

    let had = |status, count| vec![Earlier { status, changed_at: in_ms(-50) }; count];
    let once = had(TaskStatus::Failed, 1);
    let again = told(&ruled(&device, NowAndLater, &once));
    assert_eq!(shape(&again).0, Some((Wait::Report, -50)), "it has reported nothing since");
    let canceled = had(TaskStatus::Canceled, 1);
    assert_eq!(first(&told(&ruled(&device, NowAndLater, &canceled))), (Verdict::LeftOut, "AGAIN"));
    let fresh = Seen { reported: Some(Reported { version: "1.0", at: NOW }), ..device };
    let ten = had(TaskStatus::Failed, 10);
    let often = told(&ruled(&fresh, NowAndLater, &ten));
    assert_eq!(first(&often), (Verdict::LeftOut, "AGAIN"));
    assert!(often.sentence(|_| String::new()).contains("10 tasks"));
    let other = TaskNo { job: JobNo(4), ordinal: 3 };
    let standing = [(other, Standing { job: other.job, module: "radio", status: TaskStatus::Queued })];
    let busy = told(&Newcomer { standing: &standing, ..ruled(&device, NowAndLater, &[]) });
    assert_eq!((first(&busy).1, shape(&busy).0), ("BUSY", Some((Wait::Free, BORN_MS))));
}

#[test]
fn what_is_said_of_the_next_task_adds_what_was_not_said_and_says_what_is_waited_for_now() {
    let device = listens();
    let next = told(&stranger(&device, &[]));
    let ended = of(&task(TaskStatus::Failed), &TERMS, RUNS, &[], &device);
    let (before, summary) = (ended.checks.len(), ended.summary.clone());
    assert_eq!(holds(&next, "CONNECTION"), Holds::NotAsked, "that is asked once there is a task");
    let known: Vec<&str> = ended.checks.iter().map(|check| check.name).collect();
    let new = next.checks.iter().filter(|check| !known.contains(&check.name)).count();
    assert!(new > 0 && new < next.checks.len(), "{known:?}");
    let both = ended.then(next.clone());
    assert_eq!(both.checks.len(), before + new);
    assert_eq!((both.waiting, both.next), (next.waiting, next.next));
    assert_eq!(both.summary, summary.and(". The next one: ").join(next.summary));
}
