//! What every candle training run needs: parameter groups, AdamW with state, schedules, checkpoints, logs.
