//! The node's data folder as a home: it has a name of its own, and whoever holds its lock is the only
//! process that lives there. So what earlier ones left behind is known to be left.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use uuid::Uuid;

/// Held as long as the process lives; the system lets go of it however the process ends.
pub(super) struct Home {
    pub(super) id: Uuid,
    _locked: File,
}

impl Home {
    /// `None` where another process is at home there, or the folder can't be written to.
    pub(super) fn enter(data_dir: &Path) -> Option<Self> {
        let path = data_dir.join("home");
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path).ok()?;
        file.try_lock().ok()?;
        let mut text = String::new();
        // What can't be read is no name.
        let _unread = file.read_to_string(&mut text);
        let id = match text.trim().parse() {
            Ok(id) => id,
            Err(_) => name(&mut file)?,
        };
        Some(Self { id, _locked: file })
    }
}

fn name(file: &mut File) -> Option<Uuid> {
    let id = Uuid::now_v7();
    file.set_len(0).ok()?;
    file.rewind().ok()?;
    writeln!(file, "{id}").ok()?;
    Some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_at_a_time_is_at_home_and_the_next_knows_the_place() {
        let folder = tempfile::tempdir().unwrap();
        let first = Home::enter(folder.path()).unwrap();
        assert!(Home::enter(folder.path()).is_none());
        let id = first.id;
        drop(first);
        assert_eq!(Home::enter(folder.path()).unwrap().id, id);
        std::fs::write(folder.path().join("home"), "nonsense").unwrap();
        assert_ne!(Home::enter(folder.path()).unwrap().id, id);
    }
}
