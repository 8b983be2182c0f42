//! Lambda's event source mapping for a stream, as far as its documentation says what it does: batches in order, begin again
//! at the lowest reported number, halve a batch whose invocation failed, give up after some tries and keep the whole batch.

use capture_stream::payload::Response;

use crate::world::batch;

/// A shard and how its mapping reads it.
pub(crate) struct Mapping {
    pub(crate) batch_size: usize,
    pub(crate) max_retries: usize,
    /// What was given up, batch by batch, as it would stand in the bucket.
    pub(crate) given_up: Vec<String>,
    pub(crate) invocations: usize,
}

impl Mapping {
    pub(crate) fn new(batch_size: usize, max_retries: usize) -> Self {
        Self { batch_size, max_retries, given_up: Vec::new(), invocations: 0 }
    }

    /// Reads a shard to its end. `invoke` gets the payload; `Err` stands for an invocation that failed or was killed.
    pub(crate) async fn read<F>(&mut self, shard: &[(String, String)], invoke: F)
    where
        F: AsyncFn(&str) -> Result<Response, ()>,
    {
        let mut at = 0;
        while at < shard.len() {
            let end = shard.len().min(at + self.batch_size);
            self.work(&shard[at..end], &invoke).await;
            at = end;
        }
    }

    async fn work<F>(&mut self, records: &[(String, String)], invoke: &F)
    where
        F: AsyncFn(&str) -> Result<Response, ()>,
    {
        // Halves wait here, the next one last.
        let mut waiting = vec![records];
        while let Some(mut part) = waiting.pop() {
            let mut tries = 0;
            while !part.is_empty() {
                let texts: Vec<_> = part.iter().map(|(_, text)| text.clone()).collect();
                self.invocations += 1;
                let failed_at = match invoke(&batch(&texts)).await {
                    Ok(response) => match response.batch_item_failures.first() {
                        None => break,
                        Some(failure) => {
                            let known =
                                |(sequence, _): &(String, String)| *sequence == failure.item_identifier;
                            part.iter().position(known).unwrap()
                        }
                    },
                    // Halving counts for no try.
                    Err(()) if part.len() > 1 => {
                        let (first, second) = part.split_at(part.len() / 2);
                        waiting.push(second);
                        waiting.push(first);
                        break;
                    }
                    Err(()) => 0,
                };
                part = &part[failed_at..];
                tries = if failed_at > 0 { 0 } else { tries + 1 };
                if tries > self.max_retries {
                    self.given_up.push(batch(&part.iter().map(|(_, text)| text.clone()).collect::<Vec<_>>()));
                    break;
                }
            }
        }
    }
}
