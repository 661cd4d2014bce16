"""The stages of a run. Each file is one stage, with one `run(job, …) -> StageResult` that tells its story."""
