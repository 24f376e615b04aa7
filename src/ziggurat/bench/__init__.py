"""Speed and memory of models on this machine, beside its peak and beside other libraries."""
