"""One meaning, three executors: reference (one customer, with reasons), batch (all customers at many moments), live."""
