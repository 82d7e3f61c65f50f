"""What a run keeps on the disk, so that it can be gone on with, asked after, and compared with what is asked of it."""
