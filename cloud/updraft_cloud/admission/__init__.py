"""Who is let in: limits of all and of each tenant, rates, and a fair queue for places."""
