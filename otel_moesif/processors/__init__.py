"""What turns batches into batches."""
