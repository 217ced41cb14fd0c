"""HTTP: the app, authentication, the error table, wire types, and one thin file per dialect."""
