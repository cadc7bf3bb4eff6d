"""The documentation site's build: what MkDocs asks of its hooks (mkdocs.yml)."""
