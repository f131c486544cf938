"""Pages, pictures and figures of what runs learnt."""
