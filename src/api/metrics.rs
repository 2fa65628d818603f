//! `/metrics`: a snapshot of what others count, written at the moment it is asked for. Nothing personal is
//! ever a label.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::booking::Bookings;
use crate::booking::service::EventCounts;
use crate::call::roster::{DurationHistogram, Gauges};

/// Everything as OpenMetrics text.
#[must_use]
pub fn render(bookings: &Bookings, gauges: &Gauges, store_up: bool) -> String {
    let calls = bookings
        .calls_by_outcome()
        .into_iter()
        .map(|(outcome, n)| (outcome.word(), n))
        .collect();
    let pins = bookings.pin_statistics().results().to_vec();
    let challenges = bookings.pin_statistics().challenges().to_vec();
    let snapshot = Snapshot {
        gauges: gauges.clone(),
        calls,
        pins,
        challenges,
        pins_exhausted: bookings.pin_statistics().exhausted(),
        occurrence_pins: bookings.occurrence_pins_given(),
        rooms_missed: bookings.rooms_missed(),
        budget: bookings.failure_budget_remaining(),
        store_up,
        events: bookings.event_counts(),
    };
    let mut registry = Registry::default();
    registry.register_collector(Box::new(snapshot));
    let mut text = String::new();
    // Writing to a string doesn't fail.
    let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
    text
}

#[derive(Debug)]
struct Snapshot {
    gauges: Gauges,
    calls: Vec<(&'static str, u64)>,
    pins: Vec<(&'static str, u64)>,
    challenges: Vec<(&'static str, u64)>,
    pins_exhausted: u64,
    occurrence_pins: u64,
    rooms_missed: u64,
    budget: u32,
    store_up: bool,
    events: EventCounts,
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.encode_calls(&mut encoder)?;
        self.encode_events(&mut encoder)?;
        self.encode_media(&mut encoder)?;
        self.encode_sip(&mut encoder)?;
        self.encode_peers(&mut encoder)
    }
}

impl Snapshot {
    fn encode_calls(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let refused = &self.gauges.admission_refused;
        let budget = u64::from(self.budget);
        counters(
            to,
            "voicebridge_calls",
            "Calls by how they ended",
            "outcome",
            &self.calls,
        )?;
        counters(
            to,
            "voicebridge_pin_attempts",
            "PINs keyed in, by what became of them",
            "result",
            &self.pins,
        )?;
        counters(
            to,
            "voicebridge_pin_challenges",
            "Callers who were asked to key in two digits that they hear before a PIN was looked at",
            "result",
            &self.challenges,
        )?;
        let help = "PINs not given, because a twentieth of those there can be is in use";
        counter(to, "voicebridge_pins_exhausted", help, self.pins_exhausted)?;
        let help = "PINs given to single occurrences, after they were booked";
        counter(
            to,
            "voicebridge_occurrence_pins",
            help,
            self.occurrence_pins,
        )?;
        let help = "Occurrences of endless series that found their room taken when they came near";
        counter(to, "voicebridge_rooms_missed", help, self.rooms_missed)?;
        gauge(
            to,
            "voicebridge_failure_budget_remaining",
            "Wrong PINs still evaluated within the hour, on all nodes",
            budget,
        )?;
        counters(
            to,
            "voicebridge_admission_refused",
            "Calls not taken for want of capacity",
            "reason",
            refused,
        )
    }

    fn encode_events(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let EventCounts {
            kept,
            lost,
            streams,
            delivered,
            again,
            given_up,
        } = self.events;
        counter(to, "voicebridge_events", "Events kept", kept)?;
        let help = "Events not kept, because the store was away for too long";
        counter(to, "voicebridge_events_lost", help, lost)?;
        let help = "Connections that follow /v1/events";
        gauge(to, "voicebridge_event_streams", help, streams)?;
        let tries = [
            ("delivered", delivered),
            ("again", again),
            ("given_up", given_up),
        ];
        let help = "Tries to tell webhooks, by what became of them";
        counters(to, "voicebridge_webhook_tries", help, "result", &tries)
    }

    fn encode_media(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let live = &self.gauges;
        gauges(
            to,
            "voicebridge_legs",
            "Legs by kind",
            "kind",
            live.legs.iter().copied(),
        )?;
        gauge(
            to,
            "voicebridge_meetings_live",
            "Meetings somebody is in",
            live.meetings_live,
        )?;
        let (name, help) = (
            "voicebridge_tick_lateness_seconds",
            "How late the mixer's ticks were",
        );
        let mut family = to.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (thread, lateness) in live.tick_lateness.iter().enumerate() {
            lateness.encode(family.encode_family(&[("thread", thread.to_string())])?)?;
        }
        let (name, help) = (
            "voicebridge_media_thread_busy_ratio",
            "Share of a core that a media thread uses",
        );
        let mut family = to.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (thread, busy) in live.media_busy.iter().enumerate() {
            let labels = [("thread", thread.to_string())];
            ConstGauge::new(*busy).encode(family.encode_family(&labels)?)?;
        }
        counters(
            to,
            "voicebridge_media_packets_dropped",
            "Audio packets dropped outside of any call",
            "reason",
            &live.packets_dropped,
        )?;
        counters(
            to,
            "voicebridge_media_packets_refused",
            "Audio packets that came to a call's port and were not used",
            "reason",
            &live.packets_refused,
        )?;
        self.encode_handshakes(to)?;
        let (name, help) = (
            "voicebridge_call_setup_seconds",
            "From a call's arrival to the first byte of its first prompt",
        );
        let mut family = to.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (kind, took) in &live.set_up {
            took.encode(family.encode_family(&[("kind", *kind)])?)?;
        }
        counter(
            to,
            "voicebridge_concealed_frames",
            "Frames that were concealed",
            live.concealed_frames,
        )?;
        counter(
            to,
            "voicebridge_one_way_audio",
            "Legs that were sent audio for eight seconds while none came from them",
            live.one_way_audio,
        )
    }

    fn encode_handshakes(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let live = &self.gauges;
        counters(
            to,
            "voicebridge_handshakes",
            "Handshakes that the keys of calls' audio were to come by",
            "result",
            &live.handshakes,
        )?;
        counters(
            to,
            "voicebridge_handshake_packets_dropped",
            "Datagrams of handshakes and of the checks before them that were dropped",
            "reason",
            &live.handshake_packets_dropped,
        )
    }

    fn encode_sip(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let sip = &self.gauges.sip;
        let help = "SIP dialogs now";
        gauge(to, "voicebridge_sip_dialogs", help, sip.dialogs as u64)?;
        let (name, help) = ("voicebridge_sip_transactions", "SIP transactions now");
        gauge(to, name, help, sip.transactions as u64)?;
        let name = "voicebridge_sip_retransmissions";
        let help = "SIP messages sent again because nobody answered";
        counter(to, name, help, sip.retransmissions)
    }

    fn encode_peers(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let up = |(name, up): &(String, bool)| (name.clone(), u64::from(*up));
        let (asterisks, trunks) = (
            self.gauges.asterisks.iter().map(up),
            self.gauges
                .trunks
                .iter()
                .map(|trunk| (trunk.name.clone(), u64::from(trunk.up))),
        );
        gauges(
            to,
            "voicebridge_asterisk_up",
            "Is this Asterisk connected?",
            "name",
            asterisks,
        )?;
        let (name, help) = (
            "voicebridge_asterisk_events",
            "What happened with an Asterisk",
        );
        let mut family = to.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (name, event, count) in &self.gauges.asterisk_events {
            let labels = [("name", name.as_str()), ("event", event)];
            ConstCounter::new(*count).encode(family.encode_family(&labels)?)?;
        }
        gauges(
            to,
            "voicebridge_trunk_up",
            "Does this trunk answer?",
            "name",
            trunks,
        )?;
        gauges(
            to,
            "voicebridge_trunk_calls",
            "Calls by this trunk now, both ways together",
            "name",
            self.gauges
                .trunks
                .iter()
                .map(|trunk| (trunk.name.as_str(), trunk.calls as u64)),
        )?;
        let (name, help) = (
            "voicebridge_trunk_round_trip_seconds",
            "From the last OPTIONS to this trunk to its answer",
        );
        let mut family = to.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for trunk in &self.gauges.trunks {
            if let Some(ms) = trunk.round_trip_ms {
                let labels = [("name", trunk.name.as_str())];
                ConstGauge::new(ms / 1_000.0).encode(family.encode_family(&labels)?)?;
            }
        }
        gauge(
            to,
            "voicebridge_store_up",
            "Does the store answer?",
            u64::from(self.store_up),
        )
    }
}

impl EncodeMetric for DurationHistogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let mut buckets: Vec<(f64, u64)> = self
            .buckets
            .iter()
            .copied()
            .filter(|(bound, _)| bound.is_finite())
            .collect();
        let beyond: u64 = self
            .buckets
            .iter()
            .filter(|(bound, _)| !bound.is_finite())
            .map(|(_, n)| n)
            .sum();
        buckets.push((f64::INFINITY, beyond));
        let count = buckets.iter().map(|(_, n)| n).sum();
        encoder.encode_histogram::<NoLabelSet>(self.sum_seconds, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    ConstGauge::new(as_gauge(value)).encode(metric)
}

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    ConstCounter::new(value).encode(metric)
}

fn gauges<L: AsRef<str>>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &'static str,
    values: impl Iterator<Item = (L, u64)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (word, value) in values {
        ConstGauge::new(as_gauge(value))
            .encode(family.encode_family(&[(label, word.as_ref())])?)?;
    }
    Ok(())
}

fn counters(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &'static str,
    values: &[(&'static str, u64)],
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for &(word, value) in values {
        ConstCounter::new(value).encode(family.encode_family(&[(label, word)])?)?;
    }
    Ok(())
}

fn as_gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
