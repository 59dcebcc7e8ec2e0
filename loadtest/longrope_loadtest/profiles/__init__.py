"""The load to send: profiles, arrivals, lengths, traces and prompts."""
