//! Why devices have no task of a batch, and whether they will have one.

use super::{BORN, BORN_MS, NOW, RUNS, TERMS, holds, in_ms, listens, of, shape, task};
use updraft_core::dynamic::{Earlier, Policy, Reported};
use updraft_core::explain::{
    Explanation, Foreseen, Holds, Making, Newcomer, Rule, Seen, Verdict, Wait, newcomer,
};
use updraft_core::id::{DeviceNo, JobNo, TaskNo};
use updraft_core::job::{Conduct, DynamicMode, OverwriteMode, TargetSelection};
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

/// What a check says, with moments in milliseconds from now.
fn said(explanation: &Explanation, name: &str) -> String {
    let check = explanation.check(name).unwrap_or_else(|| panic!("no {name} in {explanation:?}"));
    check.text(|at| at.since_ms(NOW).to_string())
}

#[test]
fn a_batch_for_named_devices_tells_its_list_from_one_that_is_worked_off() {
    let device = listens();
    // Its devices were found by their names, so no number is the last one: none came too late.
    let worked_off =
        Newcomer { no: DeviceNo(10), selection: TargetSelection::Specific, ..stranger(&device, &[]) };
    let over = told(&worked_off);
    assert_eq!(over.check("REGISTERED"), None);
    assert!(said(&over, "SELECTION").contains("which names led to no task is not kept"));
    let making = Making { done: false, ..worked_off.making };
    let comes = told(&Newcomer { making, ..worked_off });
    assert_eq!(shape(&comes), (Some((Wait::Making, BORN_MS)), Foreseen::Decision, None));
    assert!(said(&comes, "SELECTION").contains("is being worked through"));
}

#[test]
fn a_device_of_another_product_is_not_told_that_it_came_too_late() {
    // Registering it earlier would have changed nothing.
    let device = listens();
    let of = Newcomer { no: DeviceNo(10), wanted_product_key: "b2", ..stranger(&device, &[]) };
    assert_eq!(told(&of).check("REGISTERED"), None);
}

#[test]
fn a_gray_batch_says_whether_its_choice_is_open_or_forgotten() {
    let device = listens();
    let gray = Newcomer { selection: TargetSelection::Gray, ..stranger(&device, &[]) };
    let over = told(&gray);
    assert_eq!(holds(&over, "SELECTION"), Holds::NotAsked);
    assert!(said(&over, "SELECTION").contains("Who was in the share of devices and got no task is not kept"));
    let making = Making { selecting: true, done: false, ..gray.making };
    let choosing = told(&Newcomer { making, ..gray });
    assert_eq!(holds(&choosing, "SELECTION"), Holds::NotAsked);
    assert!(said(&choosing, "SELECTION").contains("is still being chosen"));
}

#[test]
fn who_is_kept_busy_reads_by_which_tasks_and_whether_they_stay() {
    let device = listens();
    let standing = |job, module, status| {
        let no = TaskNo { job: JobNo(job), ordinal: 3 };
        (no, Standing { job: no.job, module, status })
    };
    let (waits, works) =
        (standing(3, "radio", TaskStatus::Queued), standing(4, "default", TaskStatus::InProgress));
    let of = |conduct, standing: &[_], sources: &[String]| {
        let base = stranger(&device, sources);
        let told = told(&Newcomer { standing, demand: Demand { conduct, ..base.demand }, ..base });
        (holds(&told, "BUSY"), said(&told, "BUSY"))
    };
    let keep = Conduct::default();
    let stays = "The device has unfinished tasks that stay: 3/3 (QUEUED), 4/3 (IN_PROGRESS); ";
    // Whichever version it comes from: that is another question.
    for sources in [&[][..], &["1.0".to_owned()], &["0.9".to_owned()]] {
        let (holds, said) = of(keep, &[waits, works], sources);
        assert_eq!(holds, Holds::No);
        assert!(said.starts_with(stays), "{said}");
    }
    let replace = Conduct { overwrite: OverwriteMode::Replace, ..keep };
    let replaced = "Unfinished tasks of the device are replaced: 3/3 (QUEUED).".to_owned();
    assert_eq!(of(replace, &[waits], &[]), (Holds::Yes, replaced));
    let modules = Conduct { multi_module: true, ..keep };
    let free = "No other task of the device is in the way.".to_owned();
    assert_eq!(of(modules, &[waits], &[]), (Holds::Yes, free));
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
    assert!(often.sentence(|_| String::new()).contains("10 of at most 10 tasks"));
    let other = TaskNo { job: JobNo(4), ordinal: 3 };
    let standing = [(other, Standing { job: other.job, module: "radio", status: TaskStatus::Queued })];
    let busy = told(&Newcomer { standing: &standing, ..ruled(&device, NowAndLater, &[]) });
    assert_eq!((first(&busy).1, shape(&busy).0), ("BUSY", Some((Wait::Free, BORN_MS))));
}

#[test]
fn a_device_that_a_dynamic_batch_is_about_to_look_at_is_told_so() {
    let device = listens();
    let base = ruled(&device, DynamicMode::NowAndLater, &[]);
    let followed = base.rule.unwrap();
    let other = Rule { is_followed: false, follows: Some("six"), ..followed };
    let with = |rule, making| told(&Newcomer { rule: Some(rule), making, ..base });
    let made = base.making;
    // What keeps it out may be past when it is looked at.
    let noted = with(Rule { is_noted: true, ..other }, made);
    assert_eq!((first(&noted), noted.next.what), ((Verdict::ToCome, "NEWEST"), Foreseen::Decision));
    let sentence = noted.sentence(|_| String::new());
    let expected =
        "The device is about to be looked at; as things stand: the device follows the newer batch six.";
    assert_eq!(sentence, expected);
    let ahead = Making { done: false, after: DeviceNo(6), ..made };
    for (making, looks) in [
        (ahead, true),
        (Making { done: true, ..ahead }, false),
        (Making { after: DeviceNo(7), ..ahead }, false),
        (Making { upto: DeviceNo(6), ..ahead }, false),
    ] {
        let (verdict, next) =
            if looks { (Verdict::ToCome, Foreseen::Decision) } else { (Verdict::LeftOut, Foreseen::Nothing) };
        let told = with(other, making);
        assert_eq!((told.verdict, told.next.what), (verdict, next), "{making:?}");
        // Who would be taken in waits for a look, whenever that comes.
        let told = with(followed, making);
        assert_eq!((shape(&told).0, told.next.what), (Some((Wait::Round, BORN_MS)), next), "{making:?}");
    }
}

#[test]
fn a_dynamic_batch_says_which_reports_it_waits_for() {
    let device = listens();
    let wanted = |mode| said(&told(&ruled(&device, mode, &[])), "REPORT");
    let later = wanted(DynamicMode::Later);
    assert!(later.contains("wanted: a report since the batch was made"), "{later}");
    assert_eq!(wanted(DynamicMode::NowAndLater), "The device last reported version 1.0, at -100000.");
}

#[test]
fn a_dynamic_batch_says_how_often_the_device_had_a_task_of_it() {
    let device = Seen { reported: Some(Reported { version: "1.0", at: NOW }), ..listens() };
    let had = |count| {
        let earlier = vec![Earlier { status: TaskStatus::Failed, changed_at: in_ms(-50) }; count];
        let told = told(&ruled(&device, DynamicMode::NowAndLater, &earlier));
        (holds(&told, "AGAIN"), said(&told, "AGAIN"))
    };
    assert_eq!(had(0), (Holds::Yes, "The device had no task of this batch.".to_owned()));
    let again = "The device had 1 of at most 10 tasks of this batch, and has reported since.";
    assert_eq!(had(1), (Holds::Yes, again.to_owned()));
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
