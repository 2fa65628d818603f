//! Statistics: the same question for each piece of a period.

use super::{BookingError, Bookings};
use crate::booking::admission::OrganisationId;
use crate::booking::statistics::{Period, Usage};

impl Bookings {
    /// What went on in each of these periods, with an organisation or, `None`, in all.
    ///
    /// # Errors
    /// The store's.
    pub async fn usage(
        &self,
        organisation: Option<OrganisationId>,
        periods: Vec<Period>,
    ) -> Result<Vec<(Period, Usage)>, BookingError> {
        let mut all = Vec::with_capacity(periods.len());
        for period in periods {
            all.push((period, self.store().usage(organisation, period).await?));
        }
        Ok(all)
    }
}
