//! Every behaviour as a script: what happens to a device, and what it does about it.

use serde_json::{Value, json};
use updraft_core::task::FailedStep;
use updraft_core::time::Timestamp;
use updraft_fleet::{
    Behaviour, Delivery, Device, DeviceConfig, Identity, Input, Line, Obtain, Output, Phase, Qos,
};

/// A device, its clock, and the wake-up that it asked for; outputs are shown as short texts.
struct Script {
    device: Device,
    now: Timestamp,
    wake: Option<Timestamp>,
}

fn config(behaviour: Behaviour) -> DeviceConfig {
    let mut config = DeviceConfig::new(Identity::new("pk", "dn", "secret"), "1.0");
    config.behaviour = behaviour;
    config
}

fn offer_of(version: &str, url: &str, size: u64) -> Value {
    json!({"code":"1000","data":{"size":size,"sign":"ab","version":version,"url":url,"signMethod":"Md5"},
           "id":1,"message":"success"})
}

impl Script {
    fn new(config: DeviceConfig) -> Self {
        Self { device: Device::new(config), now: Timestamp(1_000_000), wake: None }
    }

    /// A device that is connected and has reported its version.
    fn online(behaviour: Behaviour) -> Self {
        let mut script = Self::new(config(behaviour));
        assert_eq!(script.give(Input::Tick), ["connect"]);
        assert_eq!(script.give(Input::Connected)[0], "inform 1.0");
        script
    }

    fn give(&mut self, input: Input<'_>) -> Vec<String> {
        if input == Input::Tick {
            self.wake = None;
        }
        let mut out = Vec::new();
        self.device.handle(self.now, input, &mut out);
        out.into_iter().filter_map(|output| self.show(output)).collect()
    }

    fn show(&mut self, output: Output) -> Option<String> {
        Some(match output {
            Output::WakeAt(at) => {
                self.wake = Some(at);
                return None;
            }
            Output::Connect(_) => "connect".to_owned(),
            Output::Subscribe(topics) => format!("subscribe {}", topics.join(" ")),
            Output::CancelDownload => "cancel".to_owned(),
            Output::Disconnect => "disconnect".to_owned(),
            Output::Download(fetch) => match fetch.bytes_per_second {
                Some(rate) => format!("download {} from {} at {rate}", fetch.url, fetch.from_byte),
                None => format!("download {} from {}", fetch.url, fetch.from_byte),
            },
            Output::Publish { topic, payload, .. } => {
                let params = &serde_json::from_slice::<Value>(&payload).unwrap()["params"];
                let text = |key: &str| params[key].as_str().unwrap_or("").to_owned();
                let shown = match topic.as_str() {
                    "/ota/device/inform/pk/dn" => format!("inform {}", text("version")),
                    "/ota/device/progress/pk/dn" => format!("progress {} {}", text("step"), text("desc")),
                    "/sys/pk/dn/thing/ota/firmware/get" => "get".to_owned(),
                    other => panic!("{other}"),
                };
                format!("{} {}", shown.trim(), text("module")).trim().to_owned()
            }
        })
    }

    /// Lets time pass until the device wants to wake up; tells how long that was.
    fn sleep(&mut self) -> (i64, Vec<String>) {
        let wake = self.wake.expect("a wake-up");
        let slept = wake.since_ms(self.now);
        self.now = wake;
        (slept, self.give(Input::Tick))
    }

    fn push(&mut self, version: &str, url: &str) -> Vec<String> {
        let payload = offer_of(version, url, 100).to_string();
        self.give(Input::Message { topic: "/ota/device/upgrade/pk/dn", payload: payload.as_bytes() })
    }

    fn reply(&mut self, payload: &Value) -> Vec<String> {
        let payload = payload.to_string();
        let topic = "/sys/pk/dn/thing/ota/firmware/get_reply";
        self.give(Input::Message { topic, payload: payload.as_bytes() })
    }

    fn progress(&mut self, bytes: u64) -> Vec<String> {
        self.give(Input::DownloadProgress { bytes })
    }

    fn done(&mut self) -> Vec<String> {
        self.give(Input::Downloaded { digest: "AB", size: 100 })
    }

    /// From a finished download to the connection after the reboot.
    fn install_and_reboot(&mut self) -> Vec<String> {
        assert_eq!(self.device.phase(), Phase::Installing);
        assert_eq!(self.sleep(), (2_000, vec!["disconnect".to_owned()]));
        assert_eq!(self.device.phase(), Phase::Rebooting);
        let (slept, said) = self.sleep();
        assert!((5_000..=6_250).contains(&slept));
        assert_eq!(said, ["connect"]);
        self.give(Input::Connected)
    }
}

const NOTHING: [&str; 0] = [];

#[test]
fn a_good_device_updates() {
    let mut s = Script::online(Behaviour::Good);
    assert_eq!(s.push("2.0", "u"), ["progress 0", "download u from 0"]);
    assert_eq!(s.device.phase(), Phase::Downloading);
    assert_eq!(s.progress(9), NOTHING);
    assert_eq!(s.progress(25), ["progress 20"]);
    assert_eq!(s.progress(29), NOTHING);
    assert_eq!(s.progress(100), ["progress 90"]);
    assert_eq!(s.done(), ["progress 100"]);
    assert_eq!(s.install_and_reboot(), ["inform 2.0"]);
    assert_eq!(s.device.version("default"), Some("2.0"));
    assert_eq!((s.device.stats().upgraded, s.device.stats().failed), (1, 0));
    assert!(!s.device.is_settled());
    s.give(Input::PubAck);
    assert!(s.device.is_settled());
}

#[test]
fn pushes_that_change_nothing_are_ignored() {
    let mut s = Script::online(Behaviour::Good);
    assert_eq!(s.push("1.0", "u"), NOTHING);
    s.push("2.0", "u");
    assert_eq!(s.push("2.0", "u2"), NOTHING);
    assert_eq!(s.push("3.0", "u3"), NOTHING);
    s.done();
    assert_eq!(s.push("2.0", "u2"), NOTHING);
    s.install_and_reboot();
    assert_eq!(s.push("2.0", "u2"), NOTHING);
    assert_eq!(s.push("3.0", "u3"), ["progress 0", "download u3 from 0"]);
}

#[test]
fn other_topics_and_broken_payloads_are_ignored() {
    let mut s = Script::online(Behaviour::Good);
    let payload = offer_of("2.0", "u", 1).to_string();
    assert_eq!(
        s.give(Input::Message { topic: "/ota/device/upgrade/pk/other", payload: payload.as_bytes() }),
        NOTHING
    );
    assert_eq!(s.give(Input::Message { topic: "/ota/device/upgrade/pk/dn", payload: b"{" }), NOTHING);
}

#[test]
fn a_device_can_subscribe_itself_or_ask() {
    let mut c = config(Behaviour::Good);
    c.delivery = Delivery::Subscribe;
    let mut out = Vec::new();
    Device::new(c.clone()).handle(Timestamp(0), Input::Tick, &mut out);
    let Some(Output::Connect(info)) = out.first() else { panic!("{out:?}") };
    assert!(!info.client_id.contains("_ss"));
    let mut s = Script::new(c);
    s.give(Input::Tick);
    assert_eq!(
        s.give(Input::Connected),
        ["subscribe /ota/device/upgrade/pk/dn /sys/pk/dn/thing/ota/firmware/get_reply", "inform 1.0"]
    );

    let mut c = config(Behaviour::Good);
    c.delivery = Delivery::Ask;
    let mut s = Script::new(c);
    s.give(Input::Tick);
    assert_eq!(s.give(Input::Connected), ["inform 1.0", "get"]);
    assert_eq!(s.reply(&json!({"id":"2","code":200,"data":{}})), NOTHING);
    let mut reply = offer_of("2.0", "u", 100);
    reply["code"] = json!(200);
    assert_eq!(s.reply(&reply), ["progress 0", "download u from 0"]);
}

#[test]
fn failures_are_reported_where_they_belong() {
    let fails = |step| Behaviour::Fails { step, desc: "oops".to_owned(), times: u32::MAX };

    let mut s = Script::online(fails(FailedStep::Upgrade));
    assert_eq!(s.push("2.0", "u"), ["progress 0", "progress -1 oops"]);

    let mut s = Script::online(fails(FailedStep::Download));
    s.push("2.0", "u");
    assert_eq!(s.progress(30), ["progress 30"]);
    assert_eq!(s.progress(50), ["cancel", "progress -2 oops"]);

    let mut s = Script::online(fails(FailedStep::Verification));
    s.push("2.0", "u");
    assert_eq!(s.done(), ["progress -3 oops"]);

    let mut s = Script::online(fails(FailedStep::Flashing));
    s.push("2.0", "u");
    assert_eq!(s.done(), ["progress 100"]);
    assert_eq!(s.sleep().1, ["progress -4 oops"]);
    assert_eq!(s.device.phase(), Phase::Online);
    assert_eq!((s.device.stats().upgraded, s.device.stats().failed), (0, 1));
    assert_eq!(s.push("2.0", "u"), ["progress 0", "download u from 0"]);
}

#[test]
fn a_device_can_fail_a_few_times_only() {
    let mut s =
        Script::online(Behaviour::Fails { step: FailedStep::Download, desc: String::new(), times: 1 });
    s.push("2.0", "u");
    assert_eq!(s.done(), ["progress -2"]);
    s.push("2.0", "u");
    assert_eq!(s.done(), ["progress 100"]);
    assert_eq!(s.install_and_reboot(), ["inform 2.0"]);
}

#[test]
fn a_slow_device_reads_slowly() {
    let mut s = Script::online(Behaviour::Slow { download_ms: 20_000 });
    assert_eq!(s.push("2.0", "u"), ["progress 0", "download u from 0 at 5"]);
}

#[test]
fn a_late_device_comes_late() {
    let mut s = Script::new(config(Behaviour::Late { delay_ms: 7_000 }));
    assert_eq!(s.give(Input::Tick), NOTHING);
    assert_eq!(s.device.phase(), Phase::Waiting);
    assert_eq!(s.sleep(), (7_000, vec!["connect".to_owned()]));
}

#[test]
fn a_device_can_report_a_third_version() {
    let mut s = Script::online(Behaviour::WrongVersion { version: "9.9".to_owned() });
    s.push("2.0", "u");
    s.done();
    assert_eq!(s.install_and_reboot(), ["inform 9.9"]);
    assert_eq!((s.device.stats().upgraded, s.device.stats().failed), (0, 1));
}

#[test]
fn a_reverting_device_takes_the_second_push() {
    let mut s = Script::online(Behaviour::RevertsToOld);
    s.push("2.0", "u");
    s.done();
    assert_eq!(s.install_and_reboot(), ["inform 1.0"]);
    assert_eq!(s.push("2.0", "u2"), ["progress 0", "download u2 from 0"]);
    s.done();
    assert_eq!(s.install_and_reboot(), ["inform 2.0"]);
    assert_eq!((s.device.stats().upgraded, s.device.stats().started), (1, 2));
}

#[test]
fn a_device_without_power_boots_one_of_its_images_and_knows_of_nothing() {
    let without_power = |s: &mut Script| {
        s.push("2.0", "u");
        s.done();
        assert_eq!((s.sleep().1, s.sleep().1), (vec!["disconnect".to_owned()], vec!["connect".to_owned()]));
        s.give(Input::Connected)
    };
    let mut s = Script::online(Behaviour::LosesPower { new_image: false });
    assert_eq!(without_power(&mut s), ["inform 1.0"]);
    assert_eq!(s.push("2.0", "u2"), ["progress 0", "download u2 from 0"]);
    s.done();
    assert_eq!(s.install_and_reboot(), ["inform 2.0"]);

    let mut s = Script::online(Behaviour::LosesPower { new_image: true });
    assert_eq!(without_power(&mut s), ["inform 2.0"]);
}

#[test]
fn a_device_can_roll_back_later() {
    let mut s = Script::online(Behaviour::RollsBack { after_ms: 600_000 });
    s.push("2.0", "u");
    s.done();
    assert_eq!(s.install_and_reboot(), ["inform 2.0"]);
    assert_eq!(s.push("3.0", "v"), ["progress 0", "download v from 0"]);
    assert_eq!(s.sleep().1, ["cancel", "disconnect"]);
    assert_eq!(s.sleep().1, ["connect"]);
    assert_eq!(s.give(Input::Connected), ["inform 1.0"]);
    // Once is enough.
    s.push("2.0", "u");
    s.done();
    assert_eq!(s.install_and_reboot(), ["inform 2.0"]);
    assert_eq!(s.wake, None);
}

#[test]
fn a_forgetful_device_tells_how_far_it_was_with_what_it_forgot() {
    // The first connection is a good one, the second is not.
    let told = |s: &mut Script| s.give(Input::Connected).contains(&"inform 1.0".to_owned());
    let seed = (0..1_000).find(|seed| {
        let mut s = Script::new(DeviceConfig { seed: *seed, ..config(Behaviour::Forgetful) });
        s.give(Input::Tick);
        let first = told(&mut s);
        s.give(Input::Disconnected);
        s.sleep();
        first && !told(&mut s)
    });
    let seed = seed.expect("a quarter of all seeds is so");
    let config = DeviceConfig { seed, ..config(Behaviour::Forgetful) };
    let mut s = Script::new(config);
    s.give(Input::Tick);
    assert_eq!(s.give(Input::Connected), ["inform 1.0", "get"]);
    s.push("2.0", "u");
    s.progress(30);
    s.give(Input::Disconnected);
    assert_eq!(s.sleep().1, ["connect"]);
    assert_eq!(s.give(Input::Connected), ["progress 30", "cancel", "get"]);
    assert!(!s.device.is_settled());
    assert_eq!(s.push("2.0", "u"), ["progress 0", "download u from 0"]);
}

#[test]
fn a_silent_device_says_nothing() {
    let mut s = Script::online(Behaviour::Silent);
    assert_eq!(s.push("2.0", "u"), NOTHING);
    assert_eq!(s.wake, None);
}

#[test]
fn a_puller_asks_again_and_again() {
    let mut s = Script::new(config(Behaviour::Puller { every_ms: 60_000 }));
    s.give(Input::Tick);
    assert_eq!(s.give(Input::Connected), ["inform 1.0", "get"]);
    assert_eq!(s.push("2.0", "u"), NOTHING);
    assert_eq!(s.sleep(), (60_000, vec!["get".to_owned()]));
    assert_eq!(s.reply(&offer_of("2.0", "u", 100)), ["progress 0", "download u from 0"]);
    // No questions while an update is at hand.
    assert_eq!(s.sleep(), (60_000, vec![]));
    s.done();
    assert_eq!(s.install_and_reboot(), ["inform 2.0", "get"]);
}

#[test]
fn a_flaky_device_resumes_with_the_next_push() {
    let mut s = Script::online(Behaviour::Flaky);
    s.push("2.0", "u");
    assert_eq!(s.progress(20), ["progress 20"]);
    assert_eq!(s.progress(70), ["cancel", "disconnect"]);
    // What the dying download still says does not count.
    assert_eq!(s.progress(80), NOTHING);
    let (slept, said) = s.sleep();
    assert!((10_000..=12_500).contains(&slept));
    assert_eq!(said, ["connect"]);
    assert_eq!(s.give(Input::Connected), ["inform 1.0", "progress 20"]);
    assert_eq!(s.push("2.0", "u2"), ["download u2 from 70"]);
    assert_eq!(s.progress(90), ["progress 90"]);
    s.done();
    assert_eq!(s.install_and_reboot(), ["inform 2.0"]);
}

#[test]
fn a_flaky_device_goes_on_without_a_push() {
    let mut s = Script::online(Behaviour::Flaky);
    s.push("2.0", "u");
    // The whole file came before the loss, so it starts over.
    assert_eq!(s.done(), ["disconnect"]);
    s.sleep();
    s.give(Input::Connected);
    assert_eq!(s.sleep().1, ["download u from 0"]);
    assert_eq!(s.done(), ["progress 100"]);
}

#[test]
fn reconnecting_backs_off_and_recovers() {
    let mut s = Script::online(Behaviour::Good);
    let mut waits = Vec::new();
    for _ in 0..8 {
        s.give(Input::Disconnected);
        let (slept, said) = s.sleep();
        assert_eq!(said, ["connect"]);
        waits.push(slept);
    }
    for (wait, least) in waits.iter().zip([1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]) {
        assert!((least..=least + least / 4).contains(wait), "{waits:?}");
    }
    s.give(Input::Connected);
    s.give(Input::Disconnected);
    assert!(s.sleep().0 <= 1_250);
}

#[test]
fn a_lost_connection_does_not_stop_a_download() {
    let mut s = Script::online(Behaviour::Good);
    s.push("2.0", "u");
    s.give(Input::Disconnected);
    assert_eq!(s.progress(40), NOTHING);
    s.sleep();
    assert_eq!(s.give(Input::Connected), ["inform 1.0", "progress 40"]);
    assert_eq!(s.done(), ["progress 100"]);
}

#[test]
fn a_device_can_reboot_without_a_connection() {
    let mut s = Script::online(Behaviour::Good);
    s.push("2.0", "u");
    s.give(Input::Disconnected);
    s.sleep();
    assert_eq!(s.done(), NOTHING);
    // The connection attempt is given up for the reboot.
    assert_eq!(s.install_and_reboot(), ["inform 2.0"]);
}

#[test]
fn failures_are_owed_while_there_is_no_connection() {
    let mut s = Script::online(Behaviour::Good);
    s.push("2.0", "u");
    s.give(Input::Disconnected);
    assert_eq!(s.give(Input::Downloaded { digest: "cd", size: 100 }), NOTHING);
    s.sleep();
    assert_eq!(
        s.give(Input::Connected),
        ["inform 1.0", "progress -3 expected 100 bytes ab, got 100 bytes cd"]
    );
}

#[test]
fn downloads_are_tried_again_and_then_given_up() {
    let mut s = Script::online(Behaviour::Good);
    s.push("2.0", "u");
    s.progress(30);
    for wait in [2_000, 4_000, 8_000] {
        assert_eq!(s.give(Input::DownloadFailed), NOTHING);
        assert_eq!(s.sleep(), (wait, vec!["download u from 30".to_owned()]));
    }
    assert_eq!(s.give(Input::DownloadFailed), ["progress -2 the download broke off too often"]);
    assert_eq!(s.device.phase(), Phase::Online);
}

#[test]
fn wrong_digest_or_length_is_a_failed_verification() {
    for (digest, size) in [("ff", 100), ("ab", 99)] {
        let mut s = Script::online(Behaviour::Good);
        s.push("2.0", "u");
        let said = s.give(Input::Downloaded { digest, size });
        assert!(said[0].starts_with("progress -3 expected 100 bytes ab"), "{said:?}");
    }
}

#[test]
fn modules_and_several_files() {
    let mut c = config(Behaviour::Good);
    c.versions.push(("MCU".to_owned(), "0.1".to_owned()));
    let mut s = Script::new(c);
    s.give(Input::Tick);
    assert_eq!(s.give(Input::Connected), ["inform 1.0", "inform 0.1 MCU"]);
    let file = |url: &str| json!({"fileUrl":url,"fileSize":100,"fileSign":"ab"});
    let push = json!({"code":"1000","data":{"version":"0.2","module":"MCU","signMethod":"Md5",
                      "files":[file("a"),file("b")]}});
    let topic = "/ota/device/upgrade/pk/dn";
    let said = s.give(Input::Message { topic, payload: push.to_string().as_bytes() });
    assert_eq!(said, ["progress 0 MCU", "download a from 0"]);
    assert_eq!(s.progress(50), ["progress 20 MCU"]);
    assert_eq!(s.done(), ["download b from 0"]);
    assert_eq!(s.progress(20), ["progress 60 MCU"]);
    assert_eq!(s.done(), ["progress 100 MCU"]);
    assert_eq!(s.install_and_reboot(), ["inform 1.0", "inform 0.2 MCU"]);
}

#[test]
fn an_offer_without_an_address_is_refused_aloud() {
    let mut s = Script::online(Behaviour::Good);
    let push = json!({"code":"1000","data":{"version":"2","streamId":1,"streamFileId":1,"dProtocol":"mqtt"}});
    let topic = "/ota/device/upgrade/pk/dn";
    let said = s.give(Input::Message { topic, payload: push.to_string().as_bytes() });
    assert_eq!(said, ["progress 0", "progress -2 the offer has no address to download from"]);
}

#[test]
fn quality_of_service_follows_the_configuration() {
    let mut c = config(Behaviour::Good);
    c.qos = Qos::AtMostOnce;
    let mut device = Device::new(c);
    let mut out = Vec::new();
    device.handle(Timestamp(0), Input::Tick, &mut out);
    device.handle(Timestamp(0), Input::Connected, &mut out);
    assert!(out.iter().any(|o| matches!(o, Output::Publish { qos: Qos::AtMostOnce, .. })));
    assert!(device.is_settled());
}

#[test]
fn the_same_seed_gives_the_same_life() {
    let life = |seed| {
        let mut c = config(Behaviour::Flaky);
        c.seed = seed;
        let mut s = Script::new(c);
        s.give(Input::Tick);
        s.give(Input::Connected);
        s.push("2.0", "u");
        let lost = (1..100).find(|bytes| s.progress(*bytes).contains(&"cancel".to_owned()));
        (lost, s.sleep().0)
    };
    assert_eq!(life(1), life(1));
    assert_ne!(life(1), life(2));
}

#[test]
fn early_and_repeated_ticks_do_no_harm() {
    let mut s = Script::new(config(Behaviour::Late { delay_ms: 5_000 }));
    s.give(Input::Tick);
    let wake = s.wake;
    s.now = s.now.plus_ms(100);
    assert_eq!(s.give(Input::Tick), NOTHING);
    assert_eq!(s.wake, wake);
}

#[test]
fn a_device_can_think_before_it_says_anything() {
    let mut config = config(Behaviour::Good);
    config.timing.think_ms = 700;
    let mut s = Script::new(config);
    s.give(Input::Tick);
    s.give(Input::Connected);
    assert_eq!(s.push("2.0", "u"), NOTHING);
    assert_eq!(s.push("2.0", "u"), NOTHING, "it has it already");
    assert_eq!(s.sleep(), (700, vec!["progress 0".to_owned(), "download u from 0".to_owned()]));
}

#[test]
fn a_device_that_thinks_has_nothing_to_say_after_a_reconnection() {
    let mut config = config(Behaviour::Good);
    config.timing.think_ms = 60_000;
    let mut s = Script::new(config);
    s.give(Input::Tick);
    s.give(Input::Connected);
    s.push("2.0", "u");
    s.give(Input::Cut);
    assert_eq!(s.sleep(), (0, vec!["connect".to_owned()]), "a cut device comes back at once");
    assert_eq!(s.give(Input::Connected), ["inform 1.0"]);
}

#[test]
fn a_device_can_report_without_a_download() {
    let mut config = config(Behaviour::Good);
    config.obtain = Obtain::Nothing;
    config.report_every_percent = 40;
    let mut s = Script::new(config);
    s.give(Input::Tick);
    s.give(Input::Connected);
    assert_eq!(s.push("2.0", "u"), ["progress 0"]);
    assert_eq!(s.sleep(), (1_000, vec!["progress 40".to_owned()]));
    assert_eq!(s.sleep(), (1_000, vec!["progress 80".to_owned()]));
    assert_eq!(s.sleep(), (1_000, vec!["progress 100".to_owned()]));
    assert_eq!(s.install_and_reboot(), ["inform 2.0"]);
    assert_eq!(s.device.stats().downloads, 0);
}

#[test]
fn what_goes_wrong_goes_wrong_without_a_download_too() {
    for (step, said) in [
        (FailedStep::Download, "progress -2 d"),
        (FailedStep::Verification, "progress -3 d"),
        (FailedStep::Flashing, "progress -4 d"),
    ] {
        let mut config = config(Behaviour::Fails { step, desc: "d".to_owned(), times: 1 });
        config.obtain = Obtain::Nothing;
        let mut s = Script::new(config);
        s.give(Input::Tick);
        s.give(Input::Connected);
        s.push("2.0", "u");
        let told: Vec<String> =
            std::iter::from_fn(|| s.wake.is_some().then(|| s.sleep().1)).flatten().collect();
        assert_eq!(told.last().map(String::as_str), Some(said), "{told:?}");
    }
    let mut config = config(Behaviour::Flaky);
    config.obtain = Obtain::Nothing;
    let mut s = Script::new(config);
    s.give(Input::Tick);
    s.give(Input::Connected);
    s.push("2.0", "u");
    let told: Vec<String> = std::iter::from_fn(|| {
        let said = s.sleep().1;
        (said != ["connect"]).then_some(said)
    })
    .flatten()
    .collect();
    assert_eq!(told.last().map(String::as_str), Some("disconnect"));
    assert_eq!(s.give(Input::Connected)[0], "inform 1.0");
    while s.device.phase() == Phase::Downloading {
        s.sleep();
    }
    assert_eq!(s.install_and_reboot(), ["inform 2.0"]);
}

#[test]
fn a_device_that_asks_for_headers_believes_them() {
    let mut config = config(Behaviour::Good);
    config.obtain = Obtain::Head;
    let mut s = Script::new(config);
    s.give(Input::Tick);
    s.give(Input::Connected);
    s.push("2.0", "u");
    assert_eq!(s.give(Input::Downloaded { digest: "", size: 100 }), ["progress 100"]);
    s.install_and_reboot();
    s.push("3.0", "u");
    let said = s.give(Input::Downloaded { digest: "", size: 99 });
    assert!(said[0].starts_with("progress -3 expected 100 bytes"), "{said:?}");
}

#[test]
fn a_device_can_poll_instead_of_being_pushed() {
    let mut config = config(Behaviour::Good);
    config.delivery = Delivery::Poll { every_ms: 9_000 };
    let mut s = Script::new(config);
    s.give(Input::Tick);
    assert_eq!(s.give(Input::Connected), ["inform 1.0", "get"]);
    assert_eq!(s.reply(&json!({"id":"1","code":200,"data":{}})), NOTHING);
    assert_eq!(s.sleep(), (9_000, vec!["get".to_owned()]));
    assert_eq!(
        s.reply(&json!({"code":200,"data":offer_of("2.0", "u", 100)["data"]})),
        ["progress 0", "download u from 0"]
    );
}

#[test]
fn a_device_can_reconnect_for_no_reason() {
    let mut config = config(Behaviour::Good);
    config.timing.churn_ms = 10_000;
    let mut s = Script::new(config);
    s.give(Input::Tick);
    s.give(Input::Connected);
    let mut waited = 0;
    for _ in 0..200 {
        let (slept, said) = s.sleep();
        assert_eq!(said, ["disconnect"]);
        waited += slept;
        assert_eq!(s.sleep(), (0, vec!["connect".to_owned()]));
        s.give(Input::Connected);
    }
    assert!((8_000..12_000).contains(&(waited / 200)), "{waited}");
}

#[test]
fn pushes_are_remembered_by_version_and_connection() {
    let mut s = Script::online(Behaviour::Silent);
    s.push("2.0", "u");
    let first = s.now;
    s.now = s.now.plus_ms(5);
    s.push("2.0", "u");
    s.push("3.0", "u");
    s.give(Input::Cut);
    s.sleep();
    s.give(Input::Connected);
    s.push("2.0", "u");
    let seen: Vec<_> = s.device.pushed().iter().map(|p| (p.version.as_str(), p.count, p.again)).collect();
    assert_eq!(seen, [("2.0", 3, 1), ("3.0", 1, 0)]);
    assert_eq!(s.device.pushed()[0].first, first);
    assert_eq!(s.device.stats().pushes, 4);
}

#[test]
fn a_device_can_stay_on_its_old_version() {
    let mut s = Script::online(Behaviour::StaysOld);
    for _ in 0..2 {
        s.push("2.0", "u");
        s.done();
        assert_eq!(s.install_and_reboot(), ["inform 1.0"]);
    }
    assert_eq!(s.device.stats().upgraded, 0);
}

#[test]
fn a_slow_line_slows_the_download() {
    let mut config = config(Behaviour::Good);
    config.line = Line { delay_ms: 0, bytes_per_second: Some(50) };
    let mut s = Script::new(config);
    s.give(Input::Tick);
    s.give(Input::Connected);
    assert_eq!(s.push("2.0", "u"), ["progress 0", "download u from 0 at 50"]);
}
