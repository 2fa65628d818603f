//! A network of a test's own: who has an address of this machine is taken for who he says, so node and strangers get
//! others there.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

/// Runs it in this process where it is already there, else in another one. `test`: its whole name.
pub(super) fn in_a_network_of_its_own(test: &str, run: impl Fn()) {
    if std::env::var_os(INSIDE).is_some() {
        return run();
    }
    let Some(options) = WAYS.iter().find(|options| can_be_made(options)) else {
        eprintln!("{test}: left out, this machine lets nobody make a network");
        return;
    };
    let script = format!(
        "ip link set lo up && ip address add {NODE}/32 dev lo && ip address add {TRUNK}/32 dev lo && \
         ip address add {stranger}/24 dev lo && exec \"$0\" --exact {test} --include-ignored --nocapture",
        stranger = stranger(1)
    );
    let me = std::env::current_exe().expect("it runs");
    let status = Command::new("unshare")
        .args(*options)
        .args(["sh", "-c", &script])
        .arg(me)
        .env(INSIDE, "1")
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "failed in its network"
    );
}

fn can_be_made(options: &[&str]) -> bool {
    let tried = Command::new("unshare").args(options).arg("true").output();
    let tried = tried.expect("unshare is there, with util-linux");
    tried.status.success()
}

/// One of 254.
pub(super) const fn stranger(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, number))
}

/// All of them for documentation (RFC 5737).
pub(super) const NODE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
pub(super) const TRUNK: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));
/// As root, else as anybody: the latter is refused to who lives below a folder of his own (chroot).
const WAYS: [&[&str]; 2] = [&["--net"], &["--map-root-user", "--net"]];
const INSIDE: &str = "VOICEBRIDGE_TEST_NETWORK";
