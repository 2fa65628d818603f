//! Other nodes on the same Asterisk. Each says there several times a second that it lives; the callers of one
//! that has fallen silent are moved into our application, and found there like those of an earlier life of this
//! program. Asterisk doesn't tell who is connected, and a node that can't reach it is of no use to its callers.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use super::dial::is_far_half;
use super::{AriEvent, CallerId, Endpoint, What, is_dialled};
use crate::ari::caller::PAST;
use crate::ari::event::{Application, Bridge};
use crate::ari::request::Request;

/// Those that are watched.
pub(super) struct Neighbours {
    all: Vec<Neighbour>,
    /// When to say and ask next; `None`: there is nobody to ask.
    next_at: Option<Instant>,
    /// How often we said that we live.
    beat: u64,
    /// Channels on their way to us.
    coming: HashSet<String>,
    /// Callers who left our application, and their channels: where to isn't known yet.
    departed: BTreeMap<CallerId, String>,
}

struct Neighbour {
    app: String,
    /// What it said last.
    said: Option<String>,
    /// How often in a row it was found to have said nothing else.
    same: u32,
    /// The question for that is under way.
    asked: bool,
    /// It is silent; when to clear away next what it left.
    clear_at: Option<Instant>,
}

impl Neighbours {
    pub(super) fn new(apps: &[String]) -> Self {
        let neighbour = |app: &String| Neighbour {
            app: app.clone(),
            said: None,
            same: 0,
            asked: false,
            clear_at: None,
        };
        Self {
            all: apps.iter().map(neighbour).collect(),
            next_at: None,
            beat: 0,
            coming: HashSet::new(),
            departed: BTreeMap::new(),
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) const fn poll_timeout(&self) -> Option<Instant> {
        self.next_at
    }

    /// There is a connection: nothing is known of the time without one.
    pub(super) fn begin(&mut self, now: Instant) {
        self.next_at = Some(now);
        self.coming.clear();
        for neighbour in &mut self.all {
            (neighbour.same, neighbour.asked, neighbour.clear_at) = (0, false, None);
        }
    }

    pub(super) const fn stop(&mut self) {
        self.next_at = None;
    }

    /// Is this channel one that we had sent to us?
    pub(super) fn take_coming(&mut self, channel: &str) -> bool {
        self.coming.remove(channel)
    }

    /// The beginning of the names of what it made; of its last life, so that what a new one makes isn't meant.
    fn prefix(&self, index: usize, kind: &str) -> Option<String> {
        let neighbour = self.all.get(index)?;
        let (seed, _) = neighbour.said.as_ref()?.split_once('-')?;
        Some(format!("{}.{kind}.{seed}-", neighbour.app))
    }

    fn is_silent(&self, index: usize) -> bool {
        let neighbour = self.all.get(index);
        neighbour.is_some_and(|neighbour| neighbour.clear_at.is_some())
    }
}

impl Neighbour {
    /// What it is found to have said; `true`: it is silent from now on.
    fn heard(&mut self, now: Instant, said: Option<String>) -> bool {
        self.asked = false;
        if said.is_none() || said != self.said {
            (self.said, self.same, self.clear_at) = (said, 0, None);
            return false;
        }
        self.same = self.same.saturating_add(1);
        let silent = self.same >= SILENT && self.clear_at.is_none();
        if silent {
            self.clear_at = Some(now + CLEAR);
        }
        silent
    }

    fn take_clearing(&mut self, now: Instant) -> bool {
        let due = self.clear_at.filter(|at| *at <= now);
        if due.is_some() {
            self.clear_at = Some(now + CLEAR);
        }
        due.is_some()
    }
}

impl Endpoint {
    /// Says that we live, and asks who else does.
    pub(super) fn beat(&mut self, now: Instant) {
        if self.neighbours.next_at.is_none_or(|at| now < at) {
            return;
        }
        self.neighbours.next_at = Some(now + BEAT);
        self.neighbours.beat += 1;
        let said = format!("{:x}-{}", self.config.seed, self.neighbours.beat);
        let said = Request::set_global(&beat_variable(&self.config.app), &said);
        self.ask(now, What::Notice, said);
        for index in 0..self.neighbours.all.len() {
            let Some(neighbour) = self.neighbours.all.get_mut(index) else {
                return;
            };
            let app = neighbour.app.clone();
            let clears = neighbour.take_clearing(now);
            if !std::mem::replace(&mut neighbour.asked, true) {
                let question = Request::global(&beat_variable(&app));
                self.ask(now, What::Beat(index), question);
            }
            if clears {
                self.ask(now, What::Left(index, true), Request::application(&app));
                self.ask(now, What::LeftBridges(index), Request::bridges());
            }
        }
    }

    /// What a neighbour said last.
    pub(super) fn heard_beat(&mut self, now: Instant, index: usize, said: Option<String>) {
        let said = said.filter(|said| !said.is_empty());
        let Some(neighbour) = self.neighbours.all.get_mut(index) else {
            return;
        };
        if neighbour.heard(now, said) {
            let app = neighbour.app.clone();
            self.ask(now, What::Left(index, false), Request::application(&app));
            self.events.push_back(AriEvent::NeighbourSilent { app });
        }
    }

    /// What the application of a silent neighbour holds: callers come to us; what was made for them goes once
    /// they are gone.
    pub(super) fn take_over(
        &mut self,
        now: Instant,
        index: usize,
        clears: bool,
        left: &Application,
    ) {
        let media = self.neighbours.prefix(index, "media");
        let (Some(media), true) = (media, self.neighbours.is_silent(index)) else {
            return;
        };
        let near = |channel: &&String| !is_far_half(channel);
        for channel in left.channel_ids.iter().filter(near) {
            if !self.is_somebodys_media(index, channel) {
                self.have_moved(now, channel);
            } else if clears && channel.starts_with(&media) {
                self.counters.orphans += 1;
                self.remove_channel(now, channel);
            }
        }
    }

    pub(super) fn remove_left_bridges(&mut self, now: Instant, index: usize, bridges: &[Bridge]) {
        let prefix = self.neighbours.prefix(index, "bridge");
        let (Some(prefix), true) = (prefix, self.neighbours.is_silent(index)) else {
            return;
        };
        for bridge in bridges
            .iter()
            .filter(|bridge| bridge.id.starts_with(&prefix))
        {
            self.counters.orphans += 1;
            self.ask(now, What::Notice, Request::delete_bridge(&bridge.id));
        }
    }

    fn is_somebodys_media(&self, index: usize, channel: &str) -> bool {
        let neighbour = self.neighbours.all.get(index);
        let rest = neighbour.and_then(|neighbour| channel.strip_prefix(neighbour.app.as_str()));
        rest.is_some_and(|rest| rest.starts_with(".media."))
    }

    /// Has a caller come to us, and written beside him where he is: whoever had him and lives after all is to
    /// know that he didn't hang up.
    fn have_moved(&mut self, now: Instant, channel: &str) {
        let app = self.config.app.clone();
        let whereabouts = Request::set_variable(channel, WHEREABOUTS, &app);
        self.ask(now, What::Notice, whereabouts);
        self.neighbours.coming.insert(channel.to_owned());
        let moved = What::Moved(channel.to_owned());
        self.ask(now, moved, Request::move_to(channel, &app));
    }

    /// A neighbour's channel that can't be moved. One that it was calling, and that hasn't answered yet, is hung up on.
    pub(super) fn did_not_come(&mut self, now: Instant, channel: &str) {
        self.neighbours.take_coming(channel);
        if is_dialled(channel) {
            self.counters.orphans += 1;
            self.remove_channel(now, channel);
        }
    }

    /// A channel came into our application that belongs to nobody here: who was sent to us has a past.
    pub(super) fn came(&mut self, now: Instant, channel: &str) -> bool {
        let coming = self.neighbours.take_coming(channel);
        if coming {
            self.counters.taken_over += 1;
            let stranger = What::Stranger(channel.to_owned());
            self.ask(now, stranger, Request::variable(channel, PAST));
        }
        coming
    }

    /// A caller is no longer in our application, and we didn't send him away: did he hang up, or does another
    /// node have him?
    pub(super) fn gone(&mut self, now: Instant, caller: CallerId, channel: &str) {
        if self.neighbours.is_empty() {
            self.events.push_back(AriEvent::HungUp { caller });
        } else {
            let departed = &mut self.neighbours.departed;
            departed.insert(caller, channel.to_owned());
            self.ask_whereabouts(now, caller, channel);
        }
    }

    /// A connection is there again: of those who were asked after on the last one no answer came.
    pub(super) fn ask_after_the_departed(&mut self, now: Instant) {
        let departed = self.neighbours.departed.clone();
        for (caller, channel) in departed {
            self.ask_whereabouts(now, caller, &channel);
        }
    }

    fn ask_whereabouts(&mut self, now: Instant, caller: CallerId, channel: &str) {
        let question = Request::variable(channel, WHEREABOUTS);
        self.ask(now, What::Whereabouts(caller), question);
    }

    /// The application that was written beside him, if any.
    pub(super) fn found_whereabouts(&mut self, caller: CallerId, app: Option<String>) {
        self.neighbours.departed.remove(&caller);
        let app = app.filter(|app| !app.is_empty());
        self.events.push_back(match app {
            Some(app) if app != self.config.app => AriEvent::TakenOver { caller },
            Some(_) | None => AriEvent::HungUp { caller },
        });
    }
}

fn beat_variable(app: &str) -> String {
    format!("VOICEBRIDGE_BEAT_{app}")
}

/// Which application a caller was moved into last.
const WHEREABOUTS: &str = "VOICEBRIDGE_APP";
/// How often we say that we live, and ask whether others do.
const BEAT: Duration = Duration::from_millis(200);
/// So many answers without news, and it is silent. What Asterisk doesn't answer says nothing.
const SILENT: u32 = 7;
/// What a silent neighbour left is cleared away so long after its callers were moved, and again and again.
const CLEAR: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::ari::{EndpointConfig, Transmit};

    /// Node `vb-b` and its Asterisk, which also has the application of `vb-a`.
    struct World {
        endpoint: Endpoint,
        now: Instant,
        /// What stands there of `vb-a`; `None`: it has never been.
        said: Option<String>,
        hung: bool,
        channels: Vec<&'static str>,
        bridges: Vec<&'static str>,
        /// What was changed in Asterisk, without what is said of ourselves.
        done: Vec<String>,
        told: Vec<AriEvent>,
    }

    impl World {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        fn new() -> Self {
            let now = Instant::now();
            let config = EndpointConfig {
                app: "vb-b".to_owned(),
                seed: 0xB,
                take_over: vec!["vb-a".to_owned()],
            };
            let mut world = Self {
                endpoint: Endpoint::new(now, config),
                now,
                said: None,
                hung: false,
                channels: vec!["vb-a.media.a1-1", "vb-a.media.a0-7", "c1"],
                bridges: vec!["vb-a.bridge.a1-1", "vb-a.bridge.a2-1", "elsewhere"],
                done: Vec::new(),
                told: Vec::new(),
            };
            world.endpoint.handle_timeout(now);
            world.endpoint.handle_opened(now);
            world
        }

        fn run(&mut self, ms: u64) {
            for _ in 0..ms / 50 {
                self.now += Duration::from_millis(50);
                self.endpoint.handle_timeout(self.now);
                while let Some(transmit) = self.endpoint.poll_transmit() {
                    if let Transmit::Ask(asked) = transmit {
                        let text = asked.request.to_text(asked.id);
                        self.answer(&serde_json::from_str(&text).unwrap());
                    }
                }
                self.told
                    .extend(std::iter::from_fn(|| self.endpoint.poll_event()));
            }
        }

        fn answer(&mut self, asked: &Value) {
            if self.hung {
                return;
            }
            let (method, uri) = (asked["method"].as_str().unwrap(), asked["uri"].as_str());
            let uri = uri.unwrap();
            let (mut status, mut body) = (200, json!({}));
            match (method, uri) {
                ("GET", "asterisk/variable?variable=VOICEBRIDGE_BEAT_vb-a") => match &self.said {
                    Some(said) => body = json!({ "value": said }),
                    None => status = 404,
                },
                ("GET", "applications/vb-a") => body = json!({ "channel_ids": self.channels }),
                ("GET", "applications/vb-b") => body = json!({ "channel_ids": [] }),
                ("GET", "bridges") => {
                    let all = self.bridges.iter().map(|id| json!({ "id": id }));
                    body = all.collect();
                }
                ("GET", "channels/c1/variable?variable=VOICEBRIDGE_STATE") => {
                    body = json!({"value": "where he was"});
                }
                ("GET", "channels/c1/variable?variable=VOICEBRIDGE_APP") => {
                    body = json!({"value": "vb-a"});
                }
                ("GET", "channels/c1") => body = json!({"id": "c1"}),
                ("GET", _) => {}
                _ if uri.contains("VOICEBRIDGE_BEAT_vb-b") => {}
                ("POST", _) if uri.contains(".dial.") && uri.contains("/move") => status = 409,
                _ => self.done.push(format!("{method} {uri}")),
            }
            let said = json!({"type": "RESTResponse", "request_id": asked["request_id"],
                "status_code": status, "message_body": body.to_string()});
            self.endpoint.handle_text(self.now, &said.to_string());
            if uri == "channels/c1/move?app=vb-b" {
                self.channels.retain(|channel| *channel != "c1");
                let event = json!({"type": "StasisStart", "args": [], "channel": {"id": "c1"}});
                self.endpoint.handle_text(self.now, &event.to_string());
            }
        }

        /// Its neighbour lives for so long.
        fn beat(&mut self, ms: u64) {
            for beat in 0..ms / 200 {
                self.said = Some(format!("a1-{beat}"));
                self.run(200);
            }
        }
    }

    #[test]
    fn whom_a_neighbour_was_ringing_when_it_fell_silent_is_rung_no_longer() {
        let mut world = World::new();
        world.channels = vec!["vb-a.dial.a1-1", "vb-a.dial.a1-1;2"];
        world.beat(1_000);
        world.run(2_500);
        let of_his: Vec<&String> = world
            .done
            .iter()
            .filter(|done| done.contains(".dial.") && !done.contains("variable"))
            .collect();
        assert_eq!(of_his, ["DELETE channels/vb-a.dial.a1-1"]);
    }

    #[test]
    fn callers_of_a_neighbour_that_fell_silent_come_with_their_past_and_its_remains_go() {
        let mut world = World::new();
        world.beat(10_000);
        world.done.clear();
        world.run(1_200);
        assert_eq!(world.done, [""; 0], "it may only be slow");
        world.run(800);
        assert_eq!(
            world.done,
            [
                "POST channels/c1/variable?variable=VOICEBRIDGE_APP&value=vb-b",
                "POST channels/c1/move?app=vb-b"
            ]
        );
        let pasts: Vec<Option<String>> = world
            .told
            .iter()
            .filter_map(|event| {
                let AriEvent::Arrived { incoming, .. } = event else {
                    return None;
                };
                Some(incoming.past.clone())
            })
            .collect();
        assert_eq!(pasts, [Some("where he was".to_owned())]);
        assert_eq!(world.endpoint.counters().taken_over, 1);
        world.done.clear();
        world.run(5_000);
        assert_eq!(
            world.done,
            [
                "DELETE channels/vb-a.media.a1-1",
                "DELETE bridges/vb-a.bridge.a1-1"
            ]
        );
        // It lives again: its own business.
        world.done.clear();
        world.beat(12_000);
        assert_eq!(world.done, [""; 0]);
        // It takes back who was taken from it.
        let event = json!({"type": "StasisEnd", "channel": {"id": "c1"}});
        world.endpoint.handle_text(world.now, &event.to_string());
        world.run(100);
        let taken = |event: &AriEvent| matches!(event, AriEvent::TakenOver { .. });
        assert!(world.told.iter().any(taken), "{:?}", world.told);
    }

    #[test]
    fn nobody_is_taken_from_who_was_never_there_nor_while_asterisk_itself_is_silent() {
        let mut world = World::new();
        world.run(20_000);
        world.beat(1_000);
        world.hung = true;
        world.run(3_000);
        world.hung = false;
        world.run(1_200);
        assert_eq!(
            world
                .done
                .iter()
                .filter(|done| done.contains("move"))
                .count(),
            0
        );
        assert_eq!(world.endpoint.counters().taken_over, 0);
    }
}
