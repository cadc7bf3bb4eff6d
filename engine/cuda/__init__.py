"""The runtime on a GPU: buffers, programs, buckets and the loop, over any torch device."""
