//! A PostgreSQL server for tests: Debian's, in a folder of its own, reached through a socket in it.
//!
//! A shell looks after the server and ends it, folder and all, when the test process is gone, however it
//! went. `initdb` refuses to be root, so root becomes `postgres` first.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

/// A running server.
pub(crate) struct Server {
    folder: String,
    keeper: Mutex<Keeper>,
    databases: AtomicU32,
}

struct Keeper {
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    _process: Child,
}

impl Server {
    /// The one that the tests of a process share.
    #[allow(dead_code, reason = "a bench has one of its own")]
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// One that may be stopped.
    pub(crate) fn start() -> Self {
        let root = std::fs::metadata("/proc/self").is_ok_and(|me| {
            use std::os::unix::fs::MetadataExt;
            me.uid() == 0
        });
        let mut command = if root {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
            command.args(["bash", "-c", KEEPER]);
            command
        } else {
            let mut command = Command::new("bash");
            command.args(["-c", KEEPER]);
            command
        };
        let mut process = command
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("setpriv and bash are there");
        let orders = process.stdin.take().expect("piped");
        let mut keeper = Keeper {
            orders,
            answers: BufReader::new(process.stdout.take().expect("piped")),
            _process: process,
        };
        let folder = keeper.answer();
        assert_eq!(
            keeper.answer(),
            "up",
            "PostgreSQL did not start; scripts/install-test-deps installs it"
        );
        Self {
            folder,
            keeper: Mutex::new(keeper),
            databases: AtomicU32::new(0),
        }
    }

    /// The URL of a new, empty database.
    pub(crate) fn database(&self) -> String {
        let name = format!("test{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.order(&format!("database {name}"), "made");
        format!(
            "postgres://voicebridge@localhost/{name}?host={}",
            self.folder
        )
    }

    /// Ends the server as an administrator does: who is connected is thrown out.
    #[allow(dead_code, reason = "not every test file stops it")]
    pub(crate) fn stop(&self) {
        self.order("stop", "down");
    }

    /// Starts it again.
    #[allow(dead_code, reason = "not every test file stops it")]
    pub(crate) fn start_again(&self) {
        self.order("start", "up");
    }

    /// Stops it dead, as a machine does that is cut off: who is connected isn't told, and hears nothing.
    #[allow(dead_code, reason = "not every test file stops it")]
    pub(crate) fn freeze(&self) {
        self.order("freeze", "frozen");
    }

    /// Lets it go on.
    #[allow(dead_code, reason = "not every test file stops it")]
    pub(crate) fn thaw(&self) {
        self.order("thaw", "thawed");
    }

    /// Starts it anew with TLS, on this port of 127.0.0.1 too; `server.crt` and `server.key` are in `folder`.
    #[allow(dead_code, reason = "not every test file encrypts")]
    pub(crate) fn encrypt(&self, port: u16, folder: &std::path::Path) {
        self.order(&format!("encrypt {port} {}", folder.display()), "up");
    }

    fn order(&self, order: &str, expected: &str) {
        let mut keeper = self.keeper.lock().expect("nobody panics with it");
        writeln!(keeper.orders, "{order}").expect("it listens");
        assert_eq!(keeper.answer(), expected, "{order}");
    }
}

impl Keeper {
    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("it answers");
        line.trim_end().to_owned()
    }
}

/// The locale orders texts differently than bytes, as those of many servers do.
const KEEPER: &str = r#"
set -u
bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -1)
dir=$(mktemp -d /tmp/voicebridge-postgres-XXXXXX)
listen=(-c listen_addresses=)
echo "$dir"
start() {
  "$bin/postgres" -D "$dir/data" -k "$dir" "${listen[@]}" -c max_connections=200 \
    -c fsync="${FSYNC:-off}" -c shared_buffers=64MB >>"$dir/log" 2>&1 </dev/null &
  pid=$!
  for _ in $(seq 200); do
    "$bin/pg_isready" -q -h "$dir" "$@" && { echo up; return; }
    sleep 0.05
  done
  tail -5 "$dir/log" >&2
  echo failed
}
stop() { all CONT; kill -INT "$pid" 2>/dev/null; wait "$pid"; }
# The first one first: it would start others for those that are stopped.
all() { kill "-$1" "$pid" 2>/dev/null; for one in $(pgrep -P "$pid"); do kill "-$1" "$one" 2>/dev/null; done; }
encrypt() {
  stop
  cp "$2/server.crt" "$2/server.key" "$dir"
  chmod 600 "$dir/server.key"
  echo "host all all 127.0.0.1/32 trust" >>"$dir/data/pg_hba.conf"
  listen=(-c listen_addresses=127.0.0.1 -c "port=$1" -c ssl=on -c "ssl_cert_file=$dir/server.crt" -c "ssl_key_file=$dir/server.key")
  start -p "$1"
}
trap 'stop; rm -rf "$dir"' EXIT
trap '' INT
"$bin/initdb" -D "$dir/data" -U voicebridge -A trust -E UTF8 --locale=C.UTF-8 --locale-provider=icu --icu-locale=it-IT --no-sync >"$dir/log" 2>&1 || tail -5 "$dir/log" >&2
start
while read -r order name more; do
  case $order in
    database) "$bin/createdb" -h "$dir" -U voicebridge "$name" && echo made ;;
    stop) stop; echo down ;;
    start) start ;;
    freeze) all STOP; echo frozen ;;
    thaw) all CONT; echo thawed ;;
    encrypt) encrypt "$name" "$more" ;;
  esac
done
"#;
