"""Machines from Aleph Cloud. "Instance" and "node" (CRN) are its words, and stay in here.

An instance is a signed message: its hash is known before anybody hears of it. The signed bytes are committed to our
table first and broadcast then; a retry broadcasts the same bytes, so that one intent can never become two machines.
"""
