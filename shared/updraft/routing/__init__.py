"""The learned router and the scores of whole answers: features, networks, verdict logs, votes."""
