//! Whether a database would work with this program: all migrations and one look at every row, and nothing of it stays.

use crate::directory;
use crate::error::{OpenError, RehearsalError};
use crate::migrate::{self, MIGRATIONS};
use crate::store::Opened;

impl Opened {
    /// Makes the pending migrations for a try: all of them, then reads every row as a server would, and takes it all back.
    /// Gives their names and how many tenants were read. Nobody else writes meanwhile.
    pub async fn rehearse(&self) -> Result<(Vec<&'static str>, usize), RehearsalError> {
        let mut transaction = self.database.write().await.map_err(OpenError::from)?;
        let steps = migrate::rehearse(&mut transaction, MIGRATIONS).await?;
        let loaded = directory::everything(&mut transaction).await?;
        Ok((steps.iter().map(|step| step.name).collect(), loaded.tenants.len()))
    }
}
