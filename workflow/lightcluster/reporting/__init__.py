"""What a person looks at: contact sheets, figures, and one page that holds them and the scores."""
