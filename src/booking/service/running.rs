//! What becomes of bookings while their meetings run.

use super::Bookings;
use crate::booking::admission::MeetingId;
use crate::booking::meeting::Meeting;
use crate::booking::store::StoreError;

impl Bookings {
    /// Those of the meetings that run here whose bookings are newer than the revisions that they run by: another node
    /// was asked for the change, or it was made while somebody was on his way in. To be called about once a second.
    ///
    /// # Errors
    /// The store's.
    pub async fn changed_since(
        &self,
        running: Vec<(MeetingId, i64)>,
    ) -> Result<Vec<Meeting>, StoreError> {
        if running.is_empty() {
            return Ok(Vec::new());
        }
        let ids = running.iter().map(|(id, _)| *id).collect();
        let kept = self.store().revisions(ids).await?;
        let mut changed = Vec::new();
        for (id, revision) in kept {
            if running.contains(&(id, revision)) {
                continue;
            }
            let booking = match self.store().meeting(id).await {
                // The others' changes are brought all the same.
                Err(error) if !error.may_pass() => {
                    tracing::debug!(meeting = %id, %error, "a changed booking can't be read");
                    continue;
                }
                booking => booking?,
            };
            changed.extend(booking.filter(|booking| {
                running
                    .iter()
                    .any(|(known, runs_by)| *known == id && *runs_by < booking.revision)
            }));
        }
        Ok(changed)
    }
}
