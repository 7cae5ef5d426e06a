SITES = {}
ROWS = []
