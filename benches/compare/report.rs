//! What was found, as a table on the terminal, as Markdown and as pictures.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::chart::{Bar, chart};
use crate::round::Found;
use crate::scenario::Scenario;
use crate::server::Kind;
use crate::system;

/// One kind in one scenario, over all its rounds.
struct Row {
    kind: Kind,
    rounds: usize,
    /// The least, which the machine disturbed least.
    cpu_us: f64,
    /// What of that is the Asterisk's in front of it.
    front_us: Option<f64>,
    core: f64,
    memory_kib: f64,
    left_kib: f64,
    /// Of the round in which the bare timer was least late.
    spacing: [f64; 3],
    bare: [f64; 3],
    lost: f64,
    missing: f64,
    gaps: u64,
    concealed: Option<f64>,
    late: Option<f64>,
    drift: Option<f32>,
    /// Over all rounds.
    delay: Option<(f32, f32)>,
}

/// All of a scenario's rows.
struct Block<'a> {
    scenario: &'a Scenario,
    rows: Vec<Row>,
}

impl Row {
    fn of(kind: Kind, rounds: &[&Found]) -> Option<Self> {
        let least = |value: fn(&Found) -> f64| {
            rounds
                .iter()
                .map(|found| value(found))
                .min_by(f64::total_cmp)
        };
        let calmest = rounds
            .iter()
            .min_by(|a, b| a.bare[1].total_cmp(&b.bare[1]))?;
        let cheapest = rounds.iter().min_by(|a, b| a.cpu_us.total_cmp(&b.cpu_us))?;
        let mut delays: Vec<f32> = rounds
            .iter()
            .flat_map(|found| &found.delays)
            .copied()
            .collect();
        delays.sort_by(f32::total_cmp);
        let at = |share: f64| delays.get((delays.len() as f64 * share) as usize).copied();
        Some(Self {
            kind,
            rounds: rounds.len(),
            cpu_us: cheapest.cpu_us,
            front_us: cheapest.front_us,
            core: least(|found| found.core)?,
            memory_kib: least(|found| found.memory_kib)?,
            left_kib: least(|found| found.left_kib)?,
            spacing: calmest.spacing,
            bare: calmest.bare,
            lost: calmest.lost,
            missing: calmest.missing,
            gaps: calmest.gaps,
            concealed: calmest.concealed,
            late: calmest.late,
            drift: calmest.drift,
            delay: at(0.5).zip(at(0.95)),
        })
    }

    /// Did the core it had suffice? Figures of one that didn't mean little.
    fn is_overloaded(&self) -> bool {
        self.core > 0.95 || self.missing > 0.02
    }

    fn cpu(&self) -> String {
        let all = self.cpu_us;
        self.front_us.map_or_else(
            || format!("{all:.0}"),
            |front| {
                format!(
                    "{all:.0} (Asterisk {front:.0}, voicebridge {:.0})",
                    all - front
                )
            },
        )
    }

    fn cells(&self) -> [String; 9] {
        let three = |[a, b, c]: [f64; 3]| format!("{a:.2} / {b:.2} / {c:.1}");
        let share = |share: f64| match share {
            0.0 => "0".to_owned(),
            _ => format!("{:.2} %", share * 100.0),
        };
        [
            self.kind.name().to_owned(),
            self.cpu(),
            format!(
                "{:.1} %{}",
                self.core * 100.0,
                if self.is_overloaded() {
                    " (too much)"
                } else {
                    ""
                }
            ),
            three(self.spacing),
            three(self.bare),
            self.delay
                .map_or("-".into(), |(half, most)| format!("{half:.1} / {most:.1}")),
            format!("{} + {}", share(self.lost), share(self.missing)),
            self.gaps.to_string(),
            format!("{:.0}, {:.0} left", self.memory_kib, self.left_kib),
        ]
    }
}

impl<'a> Block<'a> {
    fn all(scenarios: &'a [Scenario], found: &[Found]) -> Vec<Self> {
        let block = |scenario: &'a Scenario| {
            let rows = |kind: Kind| {
                let mine = |f: &&Found| f.scenario == scenario.name && f.kind == kind;
                let rounds: Vec<&Found> = found.iter().filter(mine).collect();
                Row::of(kind, &rounds)
            };
            Self {
                scenario,
                rows: Kind::ALL.into_iter().filter_map(rows).collect(),
            }
        };
        let blocks = scenarios.iter().map(block);
        blocks.filter(|block| !block.rows.is_empty()).collect()
    }

    fn row(&self, kind: Kind) -> Option<&Row> {
        self.rows.iter().find(|row| row.kind == kind)
    }

    /// What each of ours costs, beside the floor and the peers.
    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        for (ours, floor) in [
            (Kind::KnownAddresses, Kind::FloorShared),
            (Kind::OwnSockets, Kind::FloorSeparate),
        ] {
            let Some(row) = self.row(ours) else { continue };
            let mut text = format!("{}:", ours.name());
            if let Some(floor) = self.row(floor) {
                let own = row.cpu_us - floor.cpu_us;
                let _ok = write!(text, " own cost above the floor {own:.0} us;");
            }
            for peer in self.rows.iter().filter(|row| row.kind.is_peer()) {
                let times = peer.cpu_us / row.cpu_us;
                let bound = if peer.is_overloaded() {
                    ", which was overloaded"
                } else {
                    ""
                };
                let _ok = write!(text, " 1/{times:.1} of {}{bound};", peer.kind.name());
            }
            if let Some(concealed) = row.concealed {
                let _ok = write!(text, " {:.2} % of frames concealed;", concealed * 100.0);
            }
            if let Some(late) = row.late {
                let _ok = write!(text, " {:.2} % of ticks more than 2 ms late;", late * 100.0);
            }
            if let Some(drift) = row.drift.filter(|_| self.scenario.skew_ppm != 0) {
                let _ok = write!(text, " delay moved by {drift:.1} ms;");
            }
            let _ok = write!(text, " best of {}", row.rounds);
            remarks.push(text);
        }
        remarks
    }
}

/// The whole table, for the terminal.
pub(crate) fn table(scenarios: &[Scenario], found: &[Found]) -> String {
    let mut text = String::new();
    for block in Block::all(scenarios, found) {
        let _ok = writeln!(text, "\n{} ({})", block.scenario.about, block.scenario.name);
        let mut lines = vec![HEAD.map(str::to_owned)];
        lines.extend(block.rows.iter().map(Row::cells));
        let width = |column: usize| {
            lines
                .iter()
                .map(|line| line[column].len())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
        for line in &lines {
            let cells = line
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:width$}"));
            let _ok = writeln!(
                text,
                "  {}",
                cells.collect::<Vec<_>>().join("  ").trim_end()
            );
        }
        for remark in block.remarks() {
            let _ok = writeln!(text, "  {remark}");
        }
    }
    text
}

/// Writes `performance.md` and its pictures into a folder.
pub(crate) fn write(folder: &Path, scenarios: &[Scenario], found: &[Found]) -> anyhow::Result<()> {
    let blocks = Block::all(scenarios, found);
    let load = found.iter().map(|found| found.machine).sum::<f64>() / found.len().max(1) as f64;
    let mut text = format!(
        "# Performance\n\n{INTRODUCTION}\n\nMachine: {}. Busy during the rounds, all its cores together and what \
         was measured included: {:.0} %.\n\n",
        system::machine(),
        load * 100.0
    );
    for (file, title) in [
        ("performance-cpu.svg", "CPU"),
        ("performance-delay.svg", "Delay"),
    ] {
        let _ok = writeln!(text, "![{title}]({file})\n");
    }
    for block in &blocks {
        let _ok = writeln!(
            text,
            "## {}\n\n`--only {}`\n",
            capitalised(block.scenario.about),
            block.scenario.name
        );
        let _ok = writeln!(
            text,
            "| {} |\n|{}",
            HEAD.join(" | "),
            "---|".repeat(HEAD.len())
        );
        for row in &block.rows {
            let _ok = writeln!(text, "| {} |", row.cells().join(" | "));
        }
        text.push('\n');
        for remark in block.remarks() {
            let _ok = writeln!(text, "- {remark}.");
        }
        text.push('\n');
    }
    fs::create_dir_all(folder)?;
    fs::write(
        folder.join("performance.md"),
        text.trim_end().to_owned() + "\n",
    )?;
    fs::write(folder.join("performance-cpu.svg"), cpu_chart(&blocks))?;
    fs::write(folder.join("performance-delay.svg"), delay_chart(&blocks))?;
    Ok(())
}

fn cpu_chart(blocks: &[Block<'_>]) -> String {
    let groups = blocks.iter().map(|block| {
        let bars = block.rows.iter().map(|row| Bar {
            label: row.kind.name(),
            value: row.cpu_us,
            to: None,
            colour: colour(row.kind),
            faint: row.is_overloaded(),
        });
        (block.scenario.about, bars.collect())
    });
    chart(
        "CPU microseconds per participant and second (pale: its core did not suffice)",
        &groups.collect::<Vec<_>>(),
    )
}

fn delay_chart(blocks: &[Block<'_>]) -> String {
    let groups = blocks.iter().filter_map(|block| {
        let bar = |row: &Row| {
            let (half, most) = row.delay?;
            Some(Bar {
                label: row.kind.name(),
                value: f64::from(half),
                to: Some(f64::from(most)),
                colour: colour(row.kind),
                faint: row.is_overloaded(),
            })
        };
        let bars: Vec<Bar> = block.rows.iter().filter_map(bar).collect();
        (!bars.is_empty() && is_about_delay(block.scenario)).then_some((block.scenario.about, bars))
    });
    chart(
        "One-way delay through the bridge in milliseconds: median, line to 95 %",
        &groups.collect::<Vec<_>>(),
    )
}

/// One talker at one phase against the server's clock tells nothing of delay.
const fn is_about_delay(scenario: &Scenario) -> bool {
    scenario.meetings >= 10
}

const fn colour(kind: Kind) -> &'static str {
    match kind {
        Kind::FloorShared | Kind::FloorSeparate => "#9aa5b1",
        Kind::OwnSockets | Kind::KnownAddresses | Kind::Ari | Kind::DirectMedia => "#0b7a75",
        Kind::ConfBridge | Kind::ConfBridgeBuffered => "#d9822b",
        Kind::Janus => "#7d5ba6",
    }
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters
        .next()
        .map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + characters.as_str()
}

const HEAD: [&str; 9] = [
    "server",
    "CPU us",
    "of its core",
    "spacing p50/p99/max ms",
    "bare timer ms",
    "delay p50/p95 ms",
    "lost + missing",
    "gaps",
    "KiB",
];

const INTRODUCTION: &str = "\
Made by `make compare` (`benches/compare`), which anybody can run. voicebridge and the peers take turns on the same core, \
called and fed by the same generator on another; of each figure the best of several rounds is told, for all alike. Two \
participants of each meeting talk, the others send the noise of a quiet room at -55 dBFS.

- **CPU us**: user and system time of the server's process per participant and second of conference, microseconds. The floor \
is a process that only receives and sends the same packets, once on a single socket, once on a socket per call: what is above \
it is the server's own.
- **spacing**: by how much the time between two packets to a participant differs from 20 ms (p50, p99, most). **bare timer**: how \
late a thread was woken that did nothing else, on the same core at the same time.
- **delay**: from a talker's packet leaving him to his words reaching a listener, found again in the sound itself, in all rounds \
together; packetisation and the listener's own jitter buffer are not in it. What the talker's own encoder looks ahead isn't either: \
what he sent is decoded before it is compared. What a bridge adds by coding anew is: with Opus 6.4 ms, which its encoder \
looks ahead and its decoder overlaps (6.5 ms by libopus' own word), with other sample rates 2 ms for each filter between them.
- **lost**: numbers missing among the packets that came; **missing**: packets that never were sent. **gaps**: more than 60 ms \
between two packets.
- **KiB**: resident memory per participant, and what is left of it half a second after the last call. What a process takes once, \
with its first calls, is in it: some 1.5 MB of voicebridge's, which weigh little among 400 participants and most of all among 4.

\"voicebridge, known addresses\" shares one socket among calls whose peers send from where they say (`media.shared`); \
\"voicebridge\" opens sockets for each call. ConfBridge mixes at 8 kHz where all speak G.711 and at 48 kHz otherwise, without \
announcements and music. Where voicebridge stands behind an Asterisk, CPU and core are of both together, memory is voicebridge's. Janus waits for one packet before it mixes (six by default), at 8 or 48 kHz likewise.";
